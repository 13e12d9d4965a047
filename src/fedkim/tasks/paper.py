"""The twelve tasks of the paper: four that sites train on, five classifications and three question sets they never see.

Questions are the paper's, with "X-ray" where its lung opacity prompt said "CT image" (the data are X-rays). Task
descriptions are what the router reads; those the paper's authors published are kept, the others are in our words.
Source: FEDKIM, arXiv 2408.10276, "Experimental Setups"; FEDMEKI, arXiv 2408.09227, "Tasks".
"""

from fedkim.tasks.task import Task

ICU = ("vitals", "labs", "inputs", "outputs")
"""The four channel groups of one intensive-care series, in prompt order."""

SEEN = ("lung_opacity", "covid", "ecg_abnormal", "mortality")
"""Trained on by the sites in the paper."""

UNSEEN = (
    "enlarged_cardiomediastinum",
    "atelectasis",
    "pleural_effusion",
    "ectopic_beats",
    "sepsis",
    "vqa_rad",
    "slake",
    "ecg_qa",
)
"""Held out in the paper: no label, pair, prompt or threshold of theirs is used before the evaluation."""

_QUESTION_ANSWERING = (
    "The medical Visual Question Answering task involves answering a free question about a medical image "
    "in a few words, from what the image shows."
)

_TASKS = (
    Task(
        name="lung_opacity",
        question="Assess this X-ray: should it be classified as lung opacity?",
        description=(
            "Lung opacity classification involves using medical imaging techniques to distinguish between normal lung "
            "appearances and areas of increased density, which are indicative of various pulmonary conditions."
        ),
        modalities=("image",),
    ),
    Task(
        name="covid",
        question="Based on this image, is the patient COVID-19 positive?",
        description=(
            "The COVID-19 prediction task involves analyzing chest images to determine whether a patient is positive "
            "for COVID-19."
        ),
        modalities=("image",),
    ),
    Task(
        name="ecg_abnormal",
        question="Is the given ECG abnormal?",
        description=(
            "The ECG abnormal detection task involves analyzing ECG signals to determine whether they are normal or "
            "abnormal, based on specific clinical criteria."
        ),
        modalities=("signal",),
    ),
    Task(
        name="mortality",
        question="Based on these clinical features, will mortality occur in this patient?",
        description=(
            "The mortality prediction task involves reading the first day of vital signs, lab results, inputs and "
            "outputs in intensive care to determine whether the patient dies in hospital."
        ),
        modalities=ICU,
    ),
    Task(
        name="enlarged_cardiomediastinum",
        question="Does this image show evidence of enlarged cardiomediastinum?",
        description=(
            "The enlarged cardiomediastinum prediction task involves examining chest images to determine whether the "
            "outline of the heart and mediastinum is wider than normal."
        ),
        modalities=("image",),
    ),
    Task(
        name="atelectasis",
        question="Does this image show evidence of atelectasis?",
        description=(
            "The Atelectasis detection task involves examining chest images to determine whether a part of the lung "
            "has collapsed and lost volume."
        ),
        modalities=("image",),
    ),
    Task(
        name="pleural_effusion",
        question="Does this image show evidence of pleural effusion?",
        description=(
            "The Pleural Effusion detection task involves examining chest images to determine whether fluid has "
            "gathered around the lung, blunting the angle at its base."
        ),
        modalities=("image",),
    ),
    Task(
        name="ectopic_beats",
        question="Does the given ECG contain ectopic beats?",
        description=(
            "The ectopic beats detection task involves analyzing ECG signals to determine whether they contain extra "
            "beats that arise early and outside the normal pacemaker of the heart."
        ),
        modalities=("signal",),
    ),
    Task(
        name="sepsis",
        question="Based on these clinical features, will sepsis occur in this patient?",
        description=(
            "The sepsis prediction task involves reading vital signs, lab results, inputs and outputs in intensive "
            "care to predict the onset of sepsis, an infection that leads to organ failure."
        ),
        modalities=ICU,
    ),
    Task(
        name="vqa_rad",
        question="Answer the question about the image.",
        description=_QUESTION_ANSWERING,
        modalities=("image", "text"),
        answers=None,
    ),
    Task(
        name="slake",
        question="Answer the question about the image.",
        description=_QUESTION_ANSWERING,
        modalities=("image", "text"),
        answers=None,
    ),
    Task(
        name="ecg_qa",
        question="Answer the question about the ECG.",
        description=(
            "The medical question answering task on signals involves answering a free question about the noise in an "
            "ECG recording: which kind it is and which leads it disturbs."
        ),
        modalities=("signal", "text"),
        answers=None,
    ),
)

PAPER_TASKS: dict[str, Task] = {task.name: task for task in _TASKS}
