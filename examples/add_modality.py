"""A modality of your own: the spectrum of an ECG, its encoder, and a task that reads it beside the signal."""

from dataclasses import replace

import torch
from torch import nn

from fedkim.data.registry import SOURCES
from fedkim.data.sample import Dataset
from fedkim.modalities import MODALITIES, Modality
from fedkim.tasks import TASKS


def linear(shape, width, tokens):
    """A module ``[B, *shape] -> [B, tokens, width]``; its weights are drawn anew from the run's seed."""
    return nn.Sequential(nn.Linear(shape[0], tokens * width), nn.Unflatten(1, (tokens, width)), nn.LayerNorm(width))


def load(recipe):
    """The synthetic patients with an ECG, and the spectrum (to 20 Hz) of its second lead."""
    data = SOURCES["phantom"](recipe).where(lambda sample: "signal" in sample.inputs)
    spectra = [torch.fft.rfft(sample.inputs["signal"][1]).abs().log1p()[:200] for sample in data]
    samples = [replace(s, inputs={**s.inputs, "spectrum": spectrum}) for s, spectrum in zip(data, spectra)]
    return Dataset(samples, name=data.name, synthetic=data.synthetic)


ABOUT = "The power spectrum of an electrocardiogram: how much of it swings how fast."
MODALITIES["spectrum"] = Modality(name="spectrum", description=ABOUT, tokens=2, encoders={"linear": linear})
TASKS["ecg_abnormal"] = replace(TASKS["ecg_abnormal"], modalities=("signal", "spectrum"))
SOURCES["phantom-spectrum"] = load
