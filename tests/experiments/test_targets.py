"""Targets on constructed cells: reached or missed as their numbers say, and only where there are seeds."""

from test_claims import SEEDS, cell, jitter, scores, world

from fedkim.experiments.targets import targets_table


def found(cells):
    return {name: (figure, word) for name, _, figure, word, _ in targets_table(scores(cells)).rows}


def plus(seen, *, unseen=0.7, variation="", rho=1.0, before=0.8):
    return [
        cell("fedkim-plus", seed, seen=seen + jitter(seed), unseen=unseen, before=before, variation=variation, rho=rho)
        for seed in SEEDS
    ]


def test_fedkim_plus_may_stay_a_point_below_its_small_model_and_no_more():
    name = "FEDKIM+ − its small model, covid"
    assert found(plus(0.793))[name][1] == "reached"
    assert found(plus(0.785))[name] == ("-1.50 [-1.60, -1.40]", "missed")


def test_at_rho_0_the_interval_must_hold_chance_and_be_narrow():
    name = "FEDKIM+ − 50, unseen AUROC, ρ = 0"

    def at_zero(values):
        return [
            cell("fedkim-plus", seed, unseen=value, variation="rho-0", rho=0.0)
            for seed, value in zip(SEEDS, values, strict=True)
        ]

    assert found(plus(0.8) + at_zero([0.49, 0.51, 0.50, 0.505, 0.495]))[name][1] == "reached"
    assert found(plus(0.8) + at_zero([0.54, 0.55, 0.54, 0.55, 0.545]))[name][1] == "missed"  # something leaks
    assert found(plus(0.8) + at_zero([0.40, 0.60, 0.50, 0.55, 0.45]))[name][1] == "missed"  # too wide to say


def test_a_target_of_fewer_seeds_than_there_are_says_so():
    name = "FEDKIM+ − 50, unseen AUROC, ρ = 0"
    values = dict(zip(SEEDS[:2], (0.49, 0.51)))
    at_zero = [cell("fedkim-plus", seed, unseen=v, variation="rho-0", rho=0.0) for seed, v in values.items()]
    for one in at_zero:  # two tasks and two seeds are four values
        one.record["metrics"]["atelectasis"] = one.record["metrics"]["sepsis"]
    main = [*plus(0.8), *(cell("fedkim", seed, seen=0.8 + jitter(seed)) for seed in SEEDS)]
    assert found(main + at_zero)[name][1].endswith("(on 2 of 5 seeds)")
    assert found(main)["FEDKIM+ − its small model, covid"][1] == "reached"


def test_at_rho_0_opposite_leaks_of_two_tasks_stand_beside_the_mean_that_hides_them():
    leaking = []
    for seed in SEEDS:
        one = cell("fedkim-plus", seed, unseen=0.56 + jitter(seed), variation="rho-0", rho=0.0)
        other = cell("fedkim-plus", seed, unseen=0.44 - jitter(seed)).record["metrics"]["sepsis"]
        one.record["metrics"]["atelectasis"] = other
        leaking.append(one)
    main = plus(0.8)
    for one in main:
        one.record["metrics"]["atelectasis"] = one.record["metrics"]["sepsis"]
    figure, _ = found(main + leaking)["FEDKIM+ − 50, unseen AUROC, ρ = 0"]
    assert figure.startswith("+0.00 [")
    assert figure.endswith("; furthest: sepsis +6.00")


def test_differences_of_methods_and_ablations_stand_beside_what_was_wanted():
    rows = found(world())
    assert rows["FEDKIM − FedPlug_L (rank P·r), seen AUROC"][1] == "reached"
    assert rows["FEDKIM − FEDKIM_pub, seen and unseen AUROC"][1] == "reached"
    turned = [c for c in world() if c.method != "fedkim"] + [cell("fedkim", seed, seen=0.7) for seed in SEEDS]
    assert found(turned)["FEDKIM − FedPlug_L (rank P·r), seen AUROC"][1] == "missed, lies below 0"
    wild = dict(zip(SEEDS, (0.10, -0.08, 0.09, -0.06, 0.04)))
    drowned = [cell("fedkim", seed, seen=0.76 + wild[seed]) for seed in SEEDS]
    assert (
        found([*(c for c in world() if c.method != "fedkim"), *drowned])["FEDKIM − FedPlug_L (rank P·r), seen AUROC"][1]
        == "missed, contains 0"
    )


def test_without_seeds_there_is_no_target():
    assert found([cell("fedkim", 10)]) == {}
