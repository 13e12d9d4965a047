import numpy as np
import pytest
from sklearn import metrics as reference

from fedkim.evaluation import metrics


def ones(n):
    return np.ones((1, n))


def random_case(seed, n=200, ties=True):
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.3
    scores = np.clip(random.normal(0.4 + 0.2 * positive, 0.2), 0, 1)
    return positive, np.round(scores, 1 if ties else 9)


def test_auroc_counts_ties_as_half_wins():
    positive = np.array([True, True, False, False])
    scores = np.array([0.5, 0.9, 0.5, 0.1])
    # pairs: (0.5, 0.5) half, (0.5, 0.1) won, (0.9, 0.5) won, (0.9, 0.1) won
    assert metrics.auroc(positive, scores, ones(4))[0] == 3.5 / 4


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_scikit_learn_also_when_weighted(seed, ties):
    positive, scores = random_case(seed, ties=ties)
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, len(scores))).astype(float)
    areas = metrics.auroc(positive, scores, weights)
    precisions = metrics.auprc(positive, scores, weights)
    for d in range(3):
        assert areas[d] == pytest.approx(reference.roc_auc_score(positive, scores, sample_weight=weights[d]))
        expected = reference.average_precision_score(positive, scores, sample_weight=weights[d])
        assert precisions[d] == pytest.approx(expected)


def test_a_weight_of_two_is_the_sample_twice():
    positive, scores = random_case(7)
    counts = np.random.default_rng(1).integers(0, 3, size=len(scores))
    repeated = np.repeat(np.arange(len(scores)), counts)
    weighted = metrics.auroc(positive, scores, counts[None].astype(float))
    assert weighted[0] == pytest.approx(metrics.auroc(positive[repeated], scores[repeated], ones(len(repeated)))[0])


def test_three_answers_give_the_macro_one_versus_rest_area():
    random = np.random.default_rng(3)
    labels = random.integers(3, size=150)
    table = random.dirichlet(np.ones(3), size=150) + 0.3 * np.eye(3)[labels]
    table /= table.sum(axis=1, keepdims=True)
    area = metrics.one_versus_rest(labels, table, ones(150), "auroc")[0]
    assert area == pytest.approx(reference.roc_auc_score(labels, table, multi_class="ovr", average="macro"))


def test_calibration_error_by_hand():
    # confidences 0.9 0.9 0.6 0.6, of which right: yes, no, yes, yes. Bins: |0.5 - 0.9| and |1 - 0.6|, half each.
    table = np.array([[0.1, 0.9], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([1, 0, 0, 0])
    assert metrics.calibration_error(labels, table, ones(4))[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_certainty_that_is_always_right_has_no_calibration_error():
    labels = np.array([0, 1, 1])
    assert metrics.calibration_error(labels, np.eye(2)[labels], ones(3))[0] == 0


def test_decision_scores_by_hand():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    predicted = np.array([1, 1, 0, 1, 0, 0, 0, 0])  # TP 2, FN 1, FP 1, TN 4
    scores = {name: value[0] for name, value in metrics.decision_scores(labels, predicted, ones(8), 2).items()}
    assert scores["accuracy"] == 6 / 8
    assert scores["precision"] == scores["recall"] == pytest.approx(2 / 3)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores["mcc"] == pytest.approx((2 * 4 - 1 * 1) / np.sqrt(3 * 3 * 5 * 5))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_decision_scores_are_those_of_scikit_learn(num_classes):
    random = np.random.default_rng(5)
    labels = random.integers(num_classes, size=300)
    predicted = np.where(random.random(300) < 0.6, labels, random.integers(num_classes, size=300))
    ours = {
        name: value[0] for name, value in metrics.decision_scores(labels, predicted, ones(300), num_classes).items()
    }
    average = "binary" if num_classes == 2 else "macro"
    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert ours["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, predicted))
    assert ours["precision"] == pytest.approx(reference.precision_score(labels, predicted, average=average))
    assert ours["recall"] == pytest.approx(reference.recall_score(labels, predicted, average=average))
    assert ours["f1"] == pytest.approx(reference.f1_score(labels, predicted, average=average))


def test_the_best_threshold_separates_what_can_be_separated():
    assert metrics.best_threshold(
        np.array([False, False, True, True]), np.array([0.01, 0.02, 0.1, 0.9])
    ) == pytest.approx(0.06)


def test_of_equally_good_thresholds_the_one_nearest_a_half_wins():
    # 0.3 (all positives, half of the negatives) and 0.65 (half of the positives, all negatives) are equally good
    positive = np.array([False, True, False, True])
    assert metrics.best_threshold(positive, np.array([0.2, 0.4, 0.5, 0.8])) == pytest.approx(0.65)


def test_the_best_threshold_agrees_with_a_search():
    positive, scores = random_case(11)
    threshold = metrics.best_threshold(positive, scores)
    balanced = {t: reference.balanced_accuracy_score(positive, scores >= t) for t in np.linspace(-0.01, 1.01, 500)}
    assert reference.balanced_accuracy_score(positive, scores >= threshold) == pytest.approx(max(balanced.values()))


def test_without_one_of_the_classes_there_is_no_threshold():
    assert metrics.best_threshold(np.array([True, True]), np.array([0.1, 0.2])) is None


def test_a_probability_at_the_threshold_is_a_yes():
    assert metrics.decide(np.array([[0.5, 0.5], [0.51, 0.49]]), 0.5).tolist() == [1, 0]
