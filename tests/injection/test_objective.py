import torch

from fedkim.injection.objective import IGNORED, answer_labels, answer_loss, soft_answer_loss

VOCABULARY = 11


def logits(batch: int, tokens: int) -> torch.Tensor:
    return torch.randn(batch, tokens, VOCABULARY, generator=torch.Generator().manual_seed(0))


def test_answers_end_together_and_shorter_ones_are_ignored_on_their_left():
    labels = answer_labels([[3, 1], [4, 5, 6, 1]], torch.device("cpu"))
    assert labels.tolist() == [[IGNORED, IGNORED, 3, 1], [4, 5, 6, 1]]


def test_the_loss_is_the_mean_surprise_at_each_samples_own_tokens():
    scores = logits(2, 4)
    losses = answer_loss(scores, answer_labels([[3, 1], [4, 5, 6, 1]], torch.device("cpu")))
    for row, ids in enumerate(([3, 1], [4, 5, 6, 1])):
        total = 0.0
        for place, token in enumerate(ids):
            at = scores[row, 4 - len(ids) + place].double()
            total += float(at.exp().sum().log() - at[token])
        assert abs(float(losses[row]) - total / len(ids)) < 1e-5


def test_what_stands_at_ignored_places_changes_neither_loss_nor_gradient():
    labels = answer_labels([[3, 1], [4, 5, 6, 1]], torch.device("cpu"))
    one, two = logits(2, 4).requires_grad_(), logits(2, 4)
    two[0, :2] = 100 * torch.randn(2, VOCABULARY)
    two.requires_grad_()
    first, second = answer_loss(one, labels), answer_loss(two, labels)
    assert torch.equal(first, second)
    gradient = torch.autograd.grad(second.sum(), two)[0]
    assert not gradient[0, :2].any()
    assert gradient[0, 2:].any()


def test_a_teacher_who_is_certain_teaches_as_the_label_does():
    scores, first_tokens = logits(3, 2), [torch.tensor([4, 7])] * 3
    answers = [[7, 1], [4, 1], [7, 1]]
    labels = answer_labels(answers, torch.device("cpu"))
    certain = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert torch.allclose(soft_answer_loss(scores, labels, first_tokens, certain), answer_loss(scores, labels))


def test_a_doubting_teachers_loss_is_the_mean_of_both_answers():
    scores, first_tokens, half = logits(1, 2), [torch.tensor([4, 7])], torch.tensor([[0.5, 0.5]])
    device = torch.device("cpu")
    yes, no = (answer_loss(scores, answer_labels([[token, 1]], device)) for token in (7, 4))
    soft = soft_answer_loss(scores, answer_labels([[7, 1]], device), first_tokens, half)
    assert torch.allclose(soft, (yes + no) / 2)


def test_rows_of_tasks_with_other_answers_are_taught_with_their_own():
    scores = logits(2, 2)
    labels = answer_labels([[7, 1], [5, 1]], torch.device("cpu"))
    tokens = [torch.tensor([4, 7]), torch.tensor([3, 5, 6])]
    certain = [torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])]
    assert torch.allclose(soft_answer_loss(scores, labels, tokens, certain), answer_loss(scores, labels))
