"""Devices and number formats: where a network runs, and in which precision its matrix products are done."""

from typing import Literal, get_args

import torch

from sparsight.errors import SparsightError

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]


def best_device(local_rank: int = 0) -> torch.device:
    """A CUDA device where there is one, else the CPU; processes on one machine take the devices in turn."""
    count = torch.cuda.device_count()
    return torch.device("cuda", local_rank % count) if count else torch.device("cpu")


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn the name of a precision into a dtype.

    `auto` takes bfloat16 where the processor multiplies matrices in it (AMX or AVX512-BF16, CUDA from Ampere on),
    float16 on older CUDA devices, and float32 elsewhere.

    Raises:
        SparsightError: the name is none of auto, float32, bfloat16, float16.
    """
    if name not in get_args(PrecisionName):
        raise SparsightError(f"precision is {name!r}; expected one of {', '.join(get_args(PrecisionName))}.")
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if _cpu_multiplies_bfloat16() else torch.float32


def mixed(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """A context in which matrix products and convolutions run in `precision`; float32 leaves everything as it is."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _cpu_multiplies_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
