"""The context head with the weights of the recorded runs, which derive from PyTorch's parameter names."""


from acx_jax.published.bundle import named_parameter

BLOCKS = ("backbone1.2", "backbone2.0")


def recorded_parameter(name, shape):
    return named_parameter(name, shape, 0)


def conv(name, out, inputs, taps, groups):
    """A PyTorch Conv1d/2d weight as the [groups, taps, in, out] kernel of GroupedConv."""
    shape = (out, inputs, 1, 1) if "sconvs" in name else (out, inputs, taps)
    weight = recorded_parameter(name + ".weight", shape).reshape(groups, out // groups, inputs, taps)
    return {"kernel": weight.transpose(0, 3, 2, 1), "bias": recorded_parameter(name + ".bias", (out,))}


def linear(name, out, inputs):
    shape = (out, inputs) if "last" in name else (out, inputs, 1, 1) if "sconvs" in name else (out, inputs, 1)
    weight = recorded_parameter(name + ".weight", shape).reshape(out, inputs)
    return {"kernel": weight.T, "bias": recorded_parameter(name + ".bias", (out,))}


def block(name, scaled):
    edge = linear(name + ".sconvs.0", 128, 256)
    params = {
        "temporal_in": linear(name + ".tconvs.0", 128, 128),
        "temporal_conv": conv(name + ".tconvs.2", 128, 4, 3, 32),
        "temporal_out": linear(name + ".tconvs.4", 128, 128),
        "semantic_in_kernel": edge["kernel"], "semantic_in_bias": edge["bias"],
        "semantic_group": conv(name + ".sconvs.2", 128, 4, 1, 32),
        "semantic_out": linear(name + ".sconvs.4", 128, 128),
    }
    return params | ({"scales": recorded_parameter(name + ".sacle", (3,))} if scaled else {})


def recorded_params(blocks=1, scaled_paths=False, **_):
    params = {"stem": conv("backbone1.0", 128, 128, 3, 4), "classifier": linear("last_layer", 2, 128)}
    for i in range(blocks):
        params[f"block{i}"] = block(BLOCKS[i], scaled_paths)
    return {"params": params}
