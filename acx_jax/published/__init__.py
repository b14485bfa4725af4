"""Our code against outputs recorded from the published implementation: what `python -m acx_jax.parity` runs.

A bundle is a folder of recorded arrays (`*.npz`), `bundle.json` with the seed that the weights derive from, and nothing else
that is needed. A check compares what our code makes of the recorded inputs with the recorded outputs:

    Check(files, measure)   files: the names in the bundle that it reads
                            measure(bundle) yields a `Measured` a quantity

To add a family of checks, write one file beside this one with

    CHECKS: dict[str, Check] = {"heads": Check(("heads.npz",), heads)}

    def heads(bundle: Bundle) -> Iterator[Measured]:
        arrays = bundle.arrays("heads.npz")                      # name -> array
        outputs = ((way, ours(arrays, way), arrays[f"{way}.proto"]) for way in ...)
        yield measured("proto", outputs, tolerance=1e-4)         # several arrays (name, ours, recorded), one line of the table

and one line in `families.py`. A check is named after what it reads; names, counts, sizes and settings come from the arrays, weights
from `bundle.parameter(name, shape)` and so from the bundle's own seed. `tolerance` is relative to the largest magnitude of each
recorded array (0: exact, None: shown, not judged); `absolute` is a difference that is small enough whatever the magnitude.
A file that the bundle lacks keeps a check from running and is reported; a check says `raise Lacking("why")` for anything else
that it cannot do without, such as a package, and yields `not_recorded` for a quantity that a bundle may leave out. A file that a check can make
nothing of counts as one quantity that is off, and the other checks run. Checks may import data, models, selfsup, runtime and fewshot; they see no config.
"""
