"""Tables that say why, on constructed cells whose scores, losses and routes are known."""

from constructed_cells import UNIFORM, cell, routes, scored, scores
from fedkim.experiments.explaining import against_majority, learning, routing


def test_accuracy_and_exact_match_stand_beside_the_rule_that_needs_no_patient():
    rows = {row[0]: row[3:] for row in against_majority(scores(cell(10))).rows}
    assert rows["FEDKIM"] == ["10.0", "-20.0", "-5.0", "60.0", "10.0"]
    assert rows["*language model alone*"] == ["-10.0", "-60.0", "-35.0", "–", "–"]


def test_the_loss_is_told_by_round_and_a_last_fall_says_that_it_had_not_come_to_rest():
    (row,) = learning(scores(cell(10), cell(11, losses=(4.0, 3.0, 1.0, 0.5)))).rows
    assert row[3:] == ["3.000", "0.750", "0.750", "0.450", "20 to 50 %"]
    assert not learning(scores(cell(10, losses=(1.0, 0.5)))).rows  # nothing to see of two rounds


def test_routes_are_told_of_trained_tasks_alone_and_once_for_cells_that_share_a_training():
    here = cell(10, routes=routes([0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0.4, 0.4, 0.1, 0.1]))
    same = cell(10, routes=here.record["routes"], variation="rho-0", rho=0.0, trained_in=here.name)
    (row,) = routing(scores(here, cell(11, routes=routes(UNIFORM, UNIFORM)), same)).rows
    assert row[:3] == ["FEDKIM", "fedavg", "2"]
    assert row[3] == "0.750 (0.750 to 0.750)"  # the unseen task's 0.1 doesn't count
    assert row[4] == "0.250 (0.000 to 0.500)"
    assert row[5] == "0.50"
    assert row[6] == "1 of 1"  # atelectasis is linked with lung opacity; in seed 11 nothing is nearest
    real = routing(scores(here, synthetic=False)).rows
    assert real[0][6] == "–"  # nobody knows which real finding is linked with which


def test_a_route_that_is_as_near_to_two_tasks_chose_neither():
    same = [0.4, 0.3, 0.2, 0.1]
    tied = cell(10, method="without-task", routes=routes(same, same))
    (row,) = routing(scores(tied)).rows
    assert row[6] == "–"
    apart = cell(10, routes=routes([0.25, 0.25, 0.24, 0.26], [0.4, 0.1, 0.25, 0.25]))
    assert routing(scores(apart)).rows[0][6] == "1 of 1"


def test_a_seed_of_several_cells_is_their_mean():
    sites = [cell(10, method="local-only.1"), cell(10, method="local-only.2", losses=(4.0, 3.0, 2.0, 1.0))]
    sites[1].record["metrics"]["atelectasis"]["rows"]["injected"] = {"metrics": scored(accuracy=0.9)}
    (row,) = against_majority(scores(*sites)).rows
    assert row[:4] == ["local-only (mean over the sites run)", "fedavg", "1", "20.0"]
    (row,) = learning(scores(*sites)).rows
    assert row[3] == "3.000"


def test_losses_of_other_targets_than_labels_have_no_row():
    taught = cell(10, method="taught")
    taught.record["run_info"]["config"] += '[injection]\nteacher = "decoder"\n'
    assert not learning(scores(taught)).rows
