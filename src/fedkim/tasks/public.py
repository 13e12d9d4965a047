"""Questions that the paper's public image sets answer beyond the paper's own.

With one question a modality a language model never has to read it; these disagree with the paper's on the same picture.
"""

from fedkim.tasks.task import Task

_TASKS = (
    Task(
        name="pneumonia_opacity",
        question="Does this X-ray show an opacity that makes pneumonia likely?",
        description=(
            "The pneumonia opacity task involves searching a frontal chest X-ray for a hazy or dense patch that makes "
            "pneumonia likely, among pictures of healthy lungs and of lungs with other abnormalities."
        ),
        modalities=("image",),
    ),
    Task(
        name="cardiomegaly",
        question="Does this image show evidence of cardiomegaly?",
        description=(
            "The cardiomegaly detection task involves examining chest images to determine whether the heart is larger "
            "than half of the chest's width."
        ),
        modalities=("image",),
    ),
    Task(
        name="consolidation",
        question="Does this image show evidence of consolidation?",
        description=(
            "The consolidation detection task involves examining chest images to determine whether a region of the "
            "lung is filled with fluid or cells in place of air."
        ),
        modalities=("image",),
    ),
    Task(
        name="edema",
        question="Does this image show evidence of pulmonary edema?",
        description=(
            "The edema detection task involves examining chest images to determine whether fluid has gathered in the "
            "tissue of the lungs, blurring their vessels."
        ),
        modalities=("image",),
    ),
)

PUBLIC_TASKS: dict[str, Task] = {task.name: task for task in _TASKS}
