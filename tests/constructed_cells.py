"""Cells of an experiment whose scores, losses and routes are written down, for the tests of the tables made of them."""

from fedkim.experiments.scores import CellScores, Scores

UNIFORM = [0.25] * 4


def scored(**values):
    return {name: {"value": value} for name, value in values.items()}


def closed(seen, accuracy=0.8, blindness=None):
    rows = {name: {"metrics": scored(accuracy=value)} for name, value in (("injected", accuracy), ("base", 0.5))}
    rows["majority"] = {"metrics": scored(accuracy=0.6)}
    return {"kind": "classification", "seen": seen, "rows": rows, "blindness": blindness or {}}


def text():
    parts = {"closed": {"metrics": scored(exact_match=0.6)}, "open": {"metrics": scored(exact_match=0.1)}}
    rows = {
        "injected": {"metrics": scored(exact_match=0.4), **parts},
        "base": {"metrics": scored(exact_match=0.0)},
        "majority_per_template": {"metrics": scored(exact_match=0.6)},
    }
    return {"kind": "text", "seen": False, "rows": rows, "blindness": {}}


def cell(seed, *, method="fedkim", routes=None, losses=(2.0, 1.0, 0.5, 0.4), rho=1.0, variation="", trained_in=""):
    asked = {"lung_opacity": {"pearson": 0.2, "n": 40}, "covid": {"pearson": 0.9, "n": 40}}
    record = {
        "run_info": {"config": f'[data]\nsource = "phantom"\nrho = {rho}\n', "cell": {"trained_in": trained_in}},
        "metrics": {
            "lung_opacity": closed(True),
            "covid": closed(True),
            "atelectasis": closed(False, 0.7, asked),
            "slake": text(),
        },
        "train_info": {
            "rounds": [{"round": number + 1, "injection": {"loss": [loss]}} for number, loss in enumerate(losses)]
        },
        "routes": routes or {},
    }
    name = f"{method}{'+' + variation if variation else ''}--fedavg--seed{seed}"
    return CellScores(method=method, variation=variation, backbone="fedavg", seed=seed, record=record, name=name)


def routes(first, second, unseen=UNIFORM):
    return {
        "experts": 4,
        "tasks": {"lung_opacity": first, "covid": second, "atelectasis": unseen},
        "entropy": {"lung_opacity": 1.0, "covid": 0.5, "atelectasis": 0.1},
        "collapsed": [],
        "indistinct": False,
    }


def scores(*cells, synthetic=True):
    return Scores(name="constructed", synthetic=synthetic, cells=cells)
