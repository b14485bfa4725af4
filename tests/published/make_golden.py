"""Cuts a bundle of recorded outputs down to what tests/golden keeps: python tests/published/make_golden.py BUNDLE_DIR

Only arrays, and the shapes of the state dicts that weights derive from. A new family of checks adds a line to KEPT.
"""

import re
import sys
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL_GRADIENTS = r"grad4\..*(bias|sacle|\.[ts]convs\.2\.weight)"
KEPT = {  # file -> which of its arrays
    "mcp_*.npz": rf"(x|logits|feature|loss)(1|4|13)|{SMALL_GRADIENTS}",
    "mcp_training.npz": r".*",
    "backbone_r2plus1d_34.npz": r"(x|pooled|logits|stage_\w+)_8x64",
    "eval_transform.npz": r"(frame|crop|normalised_mean)2",
    "heads.npz": r".*",
    "label_propagation.npz": r".*",
    "contrast.npz": r"K|n_data|temperature|triplet\..*|nce\.(queue0|[01]\..*)|softmax\.(queue0|0\..*)",
    "spatial_warp.npz": r"x|(point|y)1",
}


def cut(bundle: Path) -> None:
    GOLDEN.mkdir(exist_ok=True)
    for pattern, kept in KEPT.items():
        for path in sorted(bundle.glob(pattern)):
            if path.name in KEPT and path.name != pattern:
                continue  # it has a line of its own
            with np.load(path) as arrays:
                np.savez_compressed(GOLDEN / path.name, **{name: arrays[name] for name in arrays.files if re.fullmatch(kept, name)})
    for name in ("bundle.json", "mcp_shapes.json", "backbone_state_dict_shapes.json"):
        (GOLDEN / name).write_text((bundle / name).read_text())


if __name__ == "__main__":
    cut(Path(sys.argv[1]))
