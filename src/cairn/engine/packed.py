"""A decoder with its weights laid out for the matrix kernels of its device.

oneDNN multiplies few rows up to twice as fast when it has laid the weights out beforehand, and gives
every row the same bits whatever rows come with it (`models.linear`). The packed decoder is a second tree
of modules: it shares norms, embeddings and experts with the first, which stays as it is; weights that
only the first one still needs are freed with it.

On other devices products are computed in tiles of rows instead (`row_tiles`).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from cairn.engine.row_tiles import RowTiles, TiledLinear, product_of, tiled_linear
from cairn.models import Decoder
from cairn.models.layers import Experts
from cairn.models.linear import Linear, has_bfloat16, onednn_linear


class PackedLinear(nn.Module):
    """x W^T + b with W [out, in] in oneDNN's own layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return onednn_linear(x, self._weight, self._bias)


def can_pack(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels for this dtype on this device."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bfloat16())


@torch.no_grad()
def inference_copy(model: Decoder, dtype: torch.dtype, tiles: RowTiles | None = None) -> Decoder:
    """The decoder in `dtype` and ready to answer, sharing what needs no change; `model` is not touched.

    With `tiles` all products are computed in tiles of rows.
    """
    memo: dict[int, Any] = {id(p): _converted(p, dtype) for p in model.parameters()}
    if tiles is not None or can_pack(model.output_weight, dtype):
        for name, module in model.named_modules():
            # The head is the runner's; a gate of one row is not computed as a product.
            if isinstance(module, Linear) and name.rpartition(".")[2] not in ("head", "shared_gate"):
                bias = None if module.bias is None else memo[id(module.bias)]
                weight = memo[id(module.weight)]
                if tiles is None:
                    memo[id(module)] = PackedLinear(weight, bias)
                else:
                    memo[id(module)] = TiledLinear(product_of(weight, bias), tiles)
    # deepcopy takes what the memo holds already instead of copying it.
    found = copy.deepcopy(model, memo).eval()
    for module in found.modules() if tiles is not None else ():
        if isinstance(module, Experts):
            module.product = tiled_linear
    return found


def _converted(parameter: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
    if parameter.dtype == dtype:
        return parameter
    return nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
