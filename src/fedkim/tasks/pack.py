"""The questions asked of the small real-data pack: chest X-rays, single-lead ECG and the first day in intensive care.

Several questions a modality whose answers disagree on the same input, some of them in pairs of opposite polarity: with
one question a modality a language model never has to read the question. ``sepsis`` is the paper's own record.
"""

from fedkim.tasks.paper import ICU
from fedkim.tasks.task import Task

PACK_SEEN = (
    "pneumonia",
    "infiltration",
    "ap_view",
    "pa_view",
    "pvc",
    "heart_rate_above_80",
    "irregular_rhythm",
    "noisy",
    "noise_free",
    "icu_mortality",
    "lactate_above_2",
    "map_below_65",
    "map_stayed_above_65",
)
"""Trained on by the sites."""

PACK_UNSEEN = (
    "nih_effusion",
    "nih_atelectasis",
    "nih_edema",
    "nih_vqa",
    "ecg_noise_qa",
    "aki",
    "sepsis",
)
"""Held out: their labels exist on development and test patients alone."""

_TASKS = (
    Task(
        name="pneumonia",
        question="Does this chest X-ray show pneumonia?",
        description=(
            "The pneumonia detection task involves reading a frontal chest X-ray to determine whether the lungs show "
            "signs of an infection, such as patches of consolidation."
        ),
        modalities=("image",),
    ),
    Task(
        name="infiltration",
        question="Does this chest X-ray show infiltration of the lung?",
        description=(
            "The infiltration detection task involves reading a frontal chest X-ray to determine whether hazy shadows "
            "lie over lung tissue that should be clear."
        ),
        modalities=("image",),
        within="pneumonia",
    ),
    Task(
        name="ap_view",
        question="Was this image taken in anteroposterior (AP) projection?",
        description=(
            "The anteroposterior view task involves telling from a chest X-ray whether the beam entered at the chest "
            "and left at the back, as with a portable machine at the bedside."
        ),
        modalities=("image",),
    ),
    Task(
        name="pa_view",
        question="Was this image taken in posteroanterior (PA) projection?",
        description=(
            "The posteroanterior view task involves telling from a chest X-ray whether the beam entered at the back "
            "and left at the chest, as with a patient standing at the wall."
        ),
        modalities=("image",),
    ),
    Task(
        name="pvc",
        question="Does this ECG contain a premature ventricular beat?",
        description=(
            "The premature ventricular beat task involves searching ten seconds of an ECG for an early, broad beat "
            "that arises in the ventricles."
        ),
        modalities=("signal",),
    ),
    Task(
        name="heart_rate_above_80",
        question="Is the heart rate in this ECG above 80 beats per minute?",
        description=(
            "The heart rate task involves measuring the distances between the beats of an ECG to determine whether "
            "the heart beats more than 80 times a minute."
        ),
        modalities=("signal",),
    ),
    Task(
        name="irregular_rhythm",
        question="Do the heartbeats in this ECG follow each other irregularly?",
        description=(
            "The irregular rhythm task involves comparing the distances between the beats of an ECG to determine "
            "whether some are clearly longer than others."
        ),
        modalities=("signal",),
    ),
    Task(
        name="noisy",
        question="Is this ECG recording disturbed by noise?",
        description=(
            "The noise detection task involves judging the quality of an ECG recording: whether hum, tremor or a "
            "wandering baseline overlies the beats."
        ),
        modalities=("signal",),
    ),
    Task(
        name="noise_free",
        question="Is this ECG recording clean and free of noise?",
        description=(
            "The clean recording task involves judging the quality of an ECG recording: whether its baseline is quiet "
            "and nothing but heartbeats is to be seen."
        ),
        modalities=("signal",),
    ),
    Task(
        name="icu_mortality",
        question="Based on the first day of intensive care, will this patient die there?",
        description=(
            "The intensive care mortality task involves weighing the vital signs, lab results, inputs and outputs of "
            "the first 24 hours to predict whether the patient dies before leaving the unit."
        ),
        modalities=ICU,
    ),
    Task(
        name="lactate_above_2",
        question="Did the blood lactate of this patient rise above 2 mmol/L during this day?",
        description=(
            "The raised lactate task involves looking through a day's lab results to determine whether any lactate "
            "value exceeded 2 mmol/L, a sign that tissues lack oxygen."
        ),
        modalities=ICU,
    ),
    Task(
        name="map_below_65",
        question="Did the mean arterial pressure of this patient fall below 65 mmHg during this day?",
        description=(
            "The low blood pressure task involves looking through a day's vital signs to determine whether the mean "
            "arterial pressure was below 65 mmHg in any hour."
        ),
        modalities=ICU,
    ),
    Task(
        name="map_stayed_above_65",
        question="Did the mean arterial pressure of this patient stay at 65 mmHg or higher during this whole day?",
        description=(
            "The preserved blood pressure task involves looking through a day's vital signs to determine whether the "
            "mean arterial pressure was 65 mmHg or higher in every hour."
        ),
        modalities=ICU,
    ),
    Task(
        name="nih_effusion",
        question="Does this chest X-ray show pleural effusion?",
        description=(
            "The pleural effusion detection task involves reading a frontal chest X-ray to determine whether fluid "
            "has collected between lung and chest wall."
        ),
        modalities=("image",),
        within="pneumonia",
    ),
    Task(
        name="nih_atelectasis",
        question="Does this chest X-ray show atelectasis?",
        description=(
            "The atelectasis detection task involves reading a frontal chest X-ray to determine whether a part of the "
            "lung has collapsed and holds no air."
        ),
        modalities=("image",),
        within="pneumonia",
    ),
    Task(
        name="nih_edema",
        question="Does this chest X-ray show pulmonary edema?",
        description=(
            "The pulmonary edema detection task involves reading a frontal chest X-ray to determine whether fluid has "
            "leaked into the lungs, often from a failing heart."
        ),
        modalities=("image",),
        within="pneumonia",
    ),
    Task(
        name="nih_vqa",
        question="Answer the question about the chest X-ray.",
        description=(
            "The visual question answering task involves answering a free question about a chest X-ray in a few "
            "words, from what the picture shows."
        ),
        modalities=("image", "text"),
        answers=None,
    ),
    Task(
        name="ecg_noise_qa",
        question="Answer the question about the ECG.",
        description=(
            "The signal noise question answering task involves answering a free question about the noise in an ECG "
            "recording: whether there is any, and of which kind."
        ),
        modalities=("signal", "text"),
        answers=None,
    ),
    Task(
        name="aki",
        question="Based on these clinical features, does this patient develop acute kidney injury now?",
        description=(
            "The acute kidney injury task involves reading the last day of vital signs, lab results, inputs and "
            "outputs to determine whether the kidneys are about to fail."
        ),
        modalities=ICU,
    ),
)

PACK_TASKS: dict[str, Task] = {task.name: task for task in _TASKS}
"""By name, without ``sepsis``, which the paper has too."""
