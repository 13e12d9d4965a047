"""The search for patients' numbers in weights."""

RUN = 16
"""Numbers in a row that no weights share with an input by chance: half a row of a small picture."""


def leaks(state, samples):
    """Samples of which a run of numbers, of any input, stands somewhere in a state's bytes."""
    data = state.to_bytes()
    return [
        sample.id
        for sample in samples
        if any(
            piece.numpy().tobytes() in data
            for tensor in sample.inputs.values()
            for piece in tensor.flatten().split(RUN)
            if len(piece) == RUN
        )
    ]
