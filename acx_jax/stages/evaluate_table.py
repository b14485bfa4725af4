"""The results as lines for the terminal, and the names of the parts that have rows of their own."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np

from acx_jax.contracts import ABNORMAL, NORMAL
from acx_jax.data.subsets import Subset

BEST = "best, chosen on its queries"


def table(rows: list[dict[str, Any]], *, reported: str = "mean") -> list[str]:
    """The results as lines for the terminal; reported="best" shows the accuracy of each learner's best episode, too, and where classes have
    not as many queries, or are more than two, what calling all of them alike gives, and the balanced accuracy."""
    named, best = [row | {"learner": row["learner"] + _of_part(row)} for row in rows], reported == "best"
    ways = {row["way"] for row in rows}
    unequal = max(ways) > 2 or any(row["query"] != row["query_abnormal"] for row in rows)
    wide = max([len("learner"), *(len(row["learner"]) for row in named)])
    head = (f"{'learner':{wide}} {'features':10} {'accuracy':>17} " + (f"{'chance':>7} {'balanced':>8} " if unequal else "")
            + f"{'AUROC':>8} {'AP':>6} {'recall normal':>14} {'abnormal':>9}")
    return [head + (f" {BEST:>30}" if best else "")] + [
        f"{r['learner']:{wide}} {r['features']:10} {r['accuracy']:8.3f} +- {r['accuracy_ci95']:.3f} "
        + (f"{r['accuracy_chance']:7.3f} {r['balanced_accuracy']:8.3f} " if unequal else "") + f"{r['auroc']:8.3f} "
        f"{r['average_precision']:6.3f} {r['recall_normal']:14.3f} {r['recall_abnormal']:9.3f}"
        + (f" {r['accuracy_max']:30.3f}" if best else "") for r in named] + [
        f"accuracy, balanced or not, is of telling {way} classes apart; AUROC, AP and the recalls are of normal against abnormal" for way in sorted(ways - {2})] + [
        f"recognised of each category by {r['learner']} ({r['features']}): " + ", ".join(f"{name} {share:.3f}" for name, share in r["recall_by_category"].items())
        for r in rows if "recall_by_category" in r]


def queries_in_words(queries: tuple[int, ...]) -> str:
    """Such as "15 queries a class", "15 normal and 3 abnormal queries", or "15 normal queries and 3 of each category"."""
    if len(set(queries)) == 1:
        return f"{queries[0]} queries a class"
    if len(queries) > 2:
        return f"{queries[NORMAL]} normal queries and {queries[ABNORMAL]} of each category"
    return f"{queries[NORMAL]} normal and {queries[ABNORMAL]} abnormal queries"


def _of_part(row: dict[str, Any]) -> str:
    part = Subset(row["category"], row["ego_involved"], np.arange(0))
    return "" if part.is_whole else f", {part_name(part)}"


def shots_in_words(shot: int, augmented: int) -> str:
    """Such as "5-shot", or "5-shot (each with 10 augmented sequences)"."""
    return f"{shot}-shot" + (f" (each with {augmented} augmented sequence{'s' * (augmented > 1)})" if augmented else "")


def part_name(part: Subset) -> str:
    """Such as "turning ego-involved"."""
    ego = {"all": "", "yes": "ego-involved", "no": "not ego-involved"}[part.ego_involved]
    return " ".join(filter(None, (part.category if part.category != "all" else "", ego))) or "all"


def slug(part: Subset) -> str:
    """A file name for a part; a digest keeps apart what looks alike in it."""
    name = part_name(part)
    return re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_")[:40] + "-" + hashlib.sha256(name.encode()).hexdigest()[:6]
