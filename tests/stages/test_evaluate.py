"""evaluate on given features, which need no encoder: what is ranked, what is refused, and what is redone."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from runs import bring

from acx_jax import config as schema
from acx_jax.contracts import LABELS
from acx_jax.errors import UsageError, WorkError
from acx_jax.stages import evaluate

pytestmark = pytest.mark.usefixtures("quick_compiler")
SMALL = {"data.builder": "features", "episodes.shot": 1, "episodes.query": 4, "episodes.count": 8, "learners.names": ["proto"],
         "data.min_frames": 8, "data.adapt_share": 0.0}


def features_in(folder, scale: float = 1.0, videos: int = 8):
    """Segments of each class, one vector each, that lie apart in all directions a little."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(LABELS):
        (folder / name).mkdir(parents=True)
        for i in range(videos):
            np.save(folder / name / f"v{label}{i}.npy", ((rng.standard_normal((1, 8)) + 0.5 * label) * scale).astype(np.float32))
    return folder


def run(root, workdir, goal="evaluate", **values) -> str:
    return bring(goal, SMALL, root, workdir, **values)


def rows_of(workdir) -> list[dict]:
    return json.loads((workdir / "evaluate" / "results.json").read_text())


def test_a_confident_learner_keeps_its_ranking(tmp_path):
    """Features a thousand times as large: every probability is 0 or 1, and the order is what it was."""
    for name, scale in (("usual", 1.0), ("large", 1e3)):
        run(features_in(tmp_path / name, scale), tmp_path / f"w_{name}")
    usual, large = (rows_of(tmp_path / f"w_{name}")[0] for name in ("usual", "large"))
    assert large["auroc"] == usual["auroc"] < 1 and large["average_precision"] == usual["average_precision"]
    margins = np.load(tmp_path / "w_large" / "evaluate" / "scores" / "given-proto.npy")
    assert margins.dtype == np.float32 and np.abs(margins).max() > 1e3
    assert large["auroc"] == pytest.approx(np.mean([roc_auc_score([0] * 4 + [1] * 4, row) for row in margins]), abs=1e-6)
    assert "report: " in run(tmp_path / "large", tmp_path / "w_large", "report")


def test_coverage_and_data_hash_are_said_and_stand_beside_every_number(tmp_path):
    root = features_in(tmp_path / "d")
    np.save(root / "normal" / "broken.npy", np.full((1, 8), np.nan))
    said = run(root, tmp_path / "w", "report")
    rows = rows_of(tmp_path / "w")
    assert {(row["videos_used"], row["videos_listed"]) for row in rows} == {(16, 17)} and len({row["data"] for row in rows}) == 1
    assert f"on 16 of 17 listed videos, data hash {rows[0]['data']}\n" in said and len(rows[0]["data"]) == 16
    for name in ("index.html", "report.md"):
        assert f"Measured on 16 of 17 listed videos, data hash {rows[0]['data']}." in (tmp_path / "w" / "report" / name).read_text()


def test_queries_at_their_own_rate(tmp_path):
    """What the data leave of unequal counts, what is measured on them, their replay; equal counts asked for by name are no other run."""
    root, work = features_in(tmp_path / "d"), tmp_path / "w"
    (root / "abnormal" / "v17.npy").unlink()
    asked = {"episodes.shot": 5, "episodes.query": 3}
    said = run(root, work, **asked | {"episodes.query_abnormal": 4})
    assert "3 normal and 2 abnormal queries instead of 3+4: the data leave no more beside 5 shots" in said
    assert "8 episodes, 2-way 5-shot 3+2-query" in said and "chance balanced" in said
    said = run(root, work, **asked | {"episodes.query_abnormal": 1})
    assert "evaluate: is redone: config.episodes.query_abnormal was 4, is 1" in said
    row, margins = rows_of(work)[0], np.load(work / "evaluate" / "scores" / "given-proto.npy")
    assert margins.shape == (8, 4) and (row["query"], row["query_abnormal"], row["accuracy_chance"]) == (3, 1, 0.75)
    right = (margins > 0) == [False, False, False, True]
    assert row["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert row["balanced_accuracy"] == pytest.approx((right[:, :3].mean() + right[:, 3].mean()) / 2, abs=1e-6)
    assert np.isfinite([value for value in row.values() if isinstance(value, float)]).all()
    (pair,), length = json.loads((work / "evaluate" / "comparisons.json").read_text()), rows_of(work)[1]
    for measure in ("accuracy", "balanced_accuracy", "auroc"):
        assert pair[measure] == pytest.approx(row[measure] - length[measure], abs=2e-6) and pair[f"{measure}_ci95"] > 0
    assert pair["accuracy"] != pair["balanced_accuracy"]
    run(root, work, "report", **asked | {"episodes.query_abnormal": 1})
    assert "3 other normal segments and 1 abnormal" in (work / "report" / "report.md").read_text()
    of = lambda **values: evaluate.settings(schema.from_flat({f"episodes.{key}": value for key, value in values.items()}))
    assert of() == of(query_abnormal=15) == of(query_abnormal=0) != of(query_abnormal=3) and "query_abnormal" not in of()["episodes"]
    replayed = run(root, tmp_path / "w2", **asked | {"episodes.file": str(work / "evaluate" / "episodes.npz")})
    assert "3+1-query" in replayed and rows_of(tmp_path / "w2")[0]["accuracy"] == row["accuracy"]


def test_classes_that_are_categories(tmp_path):
    """Three kinds of events in directions of their own: 3 classes an episode, replayed, reported; what cannot be is refused with what could."""
    root, work, rng = tmp_path / "d", tmp_path / "w", np.random.default_rng(0)
    root.mkdir()
    rows = ["video,label,category"]
    for i in range(28):
        kind = i % 4
        np.save(root / f"v{i}.npy", (rng.standard_normal((1, 8)) + 3 * np.eye(4, 8)[kind]).astype(np.float32))
        rows.append(f"v{i},{'abnormal' if kind else 'normal'},{('', 'crash', 'skid', 'fall')[kind]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    asked = {"episodes.classes": "categories", "episodes.way": 3, "episodes.query": 3, "episodes.query_abnormal": 2, "learners.names": ["ridge"]}
    with pytest.raises(UsageError, match=r"way=9.*3 of 3 categories .*\(crash, fall, skid\): --config.episodes.way=4 would fit"):
        run(root, work, **asked | {"episodes.way": 9})
    said = run(root, work, "all", **asked)
    assert "8 episodes, 3-way 1-shot 3+2+2-query" in said and "accuracy, balanced or not, is of telling 3 classes apart" in said
    row, logits = rows_of(work)[0], np.load(work / "evaluate" / "scores" / "given-ridge.npy")
    classes = np.repeat([0, 1, 2], (3, 2, 2))
    assert logits.shape == (8, 7, 3) and logits.dtype == np.float32 and (row["way"], row["query"], row["query_abnormal"]) == (3, 3, 2)
    assert row["accuracy"] == pytest.approx((logits.argmax(axis=-1) == classes).mean(), abs=1e-6) and row["accuracy"] > row["accuracy_chance"] + 0.2
    assert row["accuracy_chance"] == pytest.approx(3 / 7, abs=1e-6)
    margins = np.log(np.exp(logits[..., 1:].astype(float)).sum(axis=-1)) - logits[..., 0]
    assert row["accuracy_binary"] == pytest.approx(((margins > 0) == (classes > 0)).mean(), abs=1e-6)
    assert set(row["recall_by_category"]) == {"crash", "skid", "fall"} and "recognised of each category by ridge (given): crash " in said
    recall = (logits.argmax(axis=-1) == classes)[:, 3:].mean()  # as many queries of each category in every episode that has it
    assert min(row["recall_by_category"].values()) <= recall <= max(row["recall_by_category"].values())
    text = (work / "report" / "report.md").read_text()
    assert "3-way 1-shot (normal and 2 of 3 kinds of anomalies, drawn anew for each)" in text
    assert "3 other normal segments and 2 of each category" in text and "Accuracy, balanced or not, is of telling all 3 classes apart" in text
    file = {"episodes.file": str(work / "evaluate" / "episodes.npz"), "learners.names": ["ridge"]}
    assert "3-way 1-shot 3+2+2-query" in run(root, tmp_path / "w2", **file) and rows_of(tmp_path / "w2")[0]["accuracy"] == row["accuracy"]
    with pytest.raises(UsageError, match="normal and 2 categories, and config.episodes.rows are of two classes"):
        run(root, tmp_path / "w2", **file | {"episodes.rows": ["ego"]})
    for refused in ({"meta.steps": 4}, {"episodes.rows": ["ego"]}):
        with pytest.raises(UsageError, match=f"config.{next(iter(refused))}.*config.episodes.classes='categories'"):
            run(root, work, **asked | refused)
    of = lambda **values: evaluate.settings(schema.from_flat({f"episodes.{key}": value for key, value in values.items()}))
    assert of() == of(way=5) != of(classes="categories") != of(classes="categories", way=5) and "classes" not in of()["episodes"]


def test_logits_that_are_no_numbers_are_named_before_anything_is_written(tmp_path):
    with pytest.raises(WorkError, match="evaluate proto on given features: episode 0 has logits that are no numbers.*scale the features"):
        run(features_in(tmp_path / "huge", 1e20), tmp_path / "w")
    assert not list((tmp_path / "w").rglob("scores/*.npy"))


def test_a_learner_that_gives_other_numbers_than_it_did_is_evaluated_anew():
    of = lambda *names: evaluate.settings(schema.from_flat({"learners.names": names}))
    assert "learner_code" not in of("mcp", "proto", "linear") and of("proto", "svm")["learner_code"] == of("svm+propagation")["learner_code"] == {"svm": "2"}


def test_with_replayed_episodes_only_what_counts_redoes_the_evaluation(tmp_path):
    (tmp_path / "episodes.npz").write_bytes(b"any")
    replayed = {"data.builder": "features", "episodes.file": str(tmp_path / "episodes.npz")}
    of = lambda **values: evaluate.settings(schema.from_flat(replayed | {f"episodes.{key}": value for key, value in values.items()}))
    assert of() == of(shot=1, count=9) and of() != of(rows=["ego"])
    assert of(rows=["ego"]) != of(rows=["ego"], shot=1) != of(rows=["categories"], shot=1)
    before = of()
    (tmp_path / "episodes.npz").write_bytes(b"other")
    assert of() != before and of(rows=["ego"])["episodes"]["file"] == of()["episodes"]["file"]
