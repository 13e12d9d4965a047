"""Text: the question itself. It enters through the LLM's own embedding, so sites hold no text encoder."""

from fedkim.modalities.modality import Modality

TEXT = Modality(
    name="text",
    description="Free text: a question in a clinician's own words, to be answered in a few words.",
    tokens=0,
    encoders={},
)
