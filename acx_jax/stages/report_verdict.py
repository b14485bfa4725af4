"""What the report's numbers do and do not say, in sentences."""

from __future__ import annotations

import math

from acx_jax.stages import training_words
from acx_jax.stages.report_inputs import Findings, Row
from acx_jax.stages.report_words import accuracy, best_row, learner_name, percent, row_name, with_interval


def verdict(findings: Findings, reported: str = "mean", result: str = "trained") -> list[str]:
    """What the numbers say, one sentence a question: better than chance? than length alone? did adaptation help, and whitening?

    reported="best": also the accuracies that the published code would name, each of the one model best on its own queries. result: as
    config.adapt.result.
    """
    best = best_row(findings.rows)
    if best is None:
        return ["No learner gave a number to judge by."]
    found = [_against_chance(best, findings), *_balanced(findings), *_against_length(best, findings), *_after_adaptation(findings, result), *_after_whitening(findings)]
    return found + ([_of_best_models(findings.rows)] if reported == "best" else [])


def against_best(findings: Findings) -> list[Row]:
    """The row of highest accuracy against each other one on the same episodes: `name`, the differences best minus other, `apart`.

    apart: whether the interval of the difference in accuracy leaves out 0.
    """
    best = best_row(findings.rows)
    if best is None:
        return []
    names, own, found = {_key(row): row for row in findings.rows}, _key(best), []
    for pair in findings.comparisons:
        other = pair["other"] if pair["row"] == own else pair["row"]
        if own in (pair["row"], pair["other"]) and other in names:
            turned = _measured(pair, 1 if pair["row"] == own else -1)
            found.append(turned | {"name": row_name(names[other]), "apart": abs(turned["accuracy"]) > turned["accuracy_ci95"]})
    return found


def _measured(pair: Row, sign: int) -> Row:
    """The differences of a comparison times `sign`, and their intervals as they are. Comparisons of older runs lack some."""
    there = [name for name in ("accuracy", "balanced_accuracy", "auroc") if name in pair]
    return {name: sign * pair[name] for name in there} | {f"{name}_ci95": pair[f"{name}_ci95"] for name in there}


def _of_best_models(rows: tuple[Row, ...]) -> str:
    each = "; ".join(f"{row_name(row)} {percent(row.get('accuracy_max', math.nan))}" for row in rows if row["learner"] != "length")
    return f"Of the one episode whose model is best on its own queries, as the published code names it (chosen on what it is judged by): {each}."


def _against_chance(best: Row, findings: Findings) -> str:
    low, high = _interval(best)
    if low > findings.chance:
        said = f"its 95 % interval is clear of chance ({percent(findings.chance)})"
    elif high < findings.chance:
        said = f"its 95 % interval lies below chance ({percent(findings.chance)})"
    else:
        said = f"that cannot be told from chance ({percent(findings.chance)})"
    return f"The highest accuracy is {accuracy(best)}, of the {row_name(best)}; {said}."


def _balanced(findings: Findings) -> list[str]:
    """What accuracy hides where the classes have not as many queries."""
    queries, best = findings.episodes.queries, best_row(findings.rows, "balanced_accuracy")
    if not findings.unequal or best is None:
        return []
    return [f"Chance is here to call every query the class that {max(queries)} of an episode's {sum(queries)} are of. The balanced accuracy, which "
            f"that does not raise, is highest for the {row_name(best)}: {with_interval(best, 'balanced_accuracy')} "
            f"(chance {1 / findings.episodes.way:.3f})."]


def _against_length(best: Row, findings: Findings) -> list[str]:
    length = next((row for row in findings.rows if row["learner"] == "length"), None)
    if length is None:
        return []
    gain, half = _difference(best, length, findings)
    above = "is clearly above" if gain > half else "is not clearly above"
    tells = " Length alone tells the classes apart here, so part of any learner's accuracy may be length." if (
        _interval(length)[0] > findings.chance) else ""
    return [f"It {above} the baseline on segment length alone ({accuracy(length)}).{tells}"]


def _after_adaptation(findings: Findings, result: str) -> list[str]:
    probe = findings.training.probe
    if training_words.unchanged(result, probe):
        return [training_words.handed_on(result, len(findings.training.losses), probe)]
    return _changes("Adaptation", "pretrained", "adapted", findings)


def _after_whitening(findings: Findings) -> list[str]:
    """Against the set that was whitened, which is the last one of the encoder's."""
    adapted = any(row["features"] == "adapted" for row in findings.rows)
    return _changes("Whitening by normal videos", "adapted" if adapted else "pretrained", "whitened", findings)


def _changes(what: str, before: str, after: str, findings: Findings) -> list[str]:
    """What became of the accuracy of the learners that saw both sets of features; nothing where there are not both."""
    by_name = {(row["features"], row["learner"]): row for row in findings.rows}
    changes = [(_change(row, by_name[after, learner], *gain), *gain) for (features, learner), row in by_name.items()
               if features == before and (after, learner) in by_name
               for gain in [_difference(by_name[after, learner], row, findings)]]
    better = [words for words, gain, half in changes if gain > half]
    worse = [words for words, gain, half in changes if -gain > half]
    alike = [words for words, gain, half in changes if not abs(gain) > half]
    found = [(f"{what} raised the accuracy of ", better), (f"{what} lowered the accuracy of ", worse),
             (f"{what} made no clear difference to ", alike)]
    return [start + "; ".join(of) + "." for start, of in found if of]


def _change(before: Row, after: Row, gain: float, half: float) -> str:
    learner = learner_name(before["learner"])
    by = "" if math.isnan(gain + half) else f"; difference {100 * gain:+z.1f} ± {100 * half:.1f}"
    return f"the {learner} ({accuracy(before)} → {accuracy(after)}{by})".replace("the prototypes", "prototypes")


def _difference(row: Row, other: Row, findings: Findings) -> tuple[float, float]:
    """Mean accuracy of `row` less that of `other` over the same episodes and half its 95 % interval; NaN where they were not compared.

    Two intervals that overlap say little of it: what makes an episode hard is hard for both.
    """
    names = (_key(row), _key(other))
    for pair in findings.comparisons:
        if (pair["row"], pair["other"]) in (names, names[::-1]):
            return (pair["accuracy"] if pair["row"] == names[0] else -pair["accuracy"]), pair["accuracy_ci95"]
    return math.nan, math.nan


def _interval(row: Row) -> tuple[float, float]:
    return row["accuracy"] - row["accuracy_ci95"], row["accuracy"] + row["accuracy_ci95"]


def _key(row: Row) -> str:
    """The name of a row in evaluate/comparisons.json."""
    return f"{row['features']}-{row['learner']}"
