"""A task of your own: the opposite of one that is there, so that a question's wording has to be read."""

from dataclasses import replace

from fedkim.data.registry import SOURCES
from fedkim.data.sample import Dataset
from fedkim.tasks import TASKS, Task

QUESTION = "Based on this image, is the patient free of COVID-19?"
WHAT = "The COVID-19 exclusion task involves analyzing chest images to determine whether COVID-19 can be ruled out."
TASKS["covid_free"] = Task(name="covid_free", question=QUESTION, description=WHAT, modalities=("image",))
OPPOSITE = {"Yes": {"covid_free": "No"}, "No": {"covid_free": "Yes"}, None: {}}


def load(recipe):
    """The synthetic patients with the new task's answers; a source of your own would bring them along."""
    data = SOURCES["phantom"](recipe)
    samples = [replace(s, labels={**s.labels, **OPPOSITE[s.labels.get("covid")]}) for s in data]
    return Dataset(samples, name=data.name, synthetic=data.synthetic)


SOURCES["phantom-covid-free"] = load
