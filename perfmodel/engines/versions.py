"""Versions of engines: how they are written, and which era each belongs to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


FOREIGN = re.compile(
    r"(pytorch|torch|cuda|rocm|tensorrt|rhel|ubuntu|triton|aiter|transformers)[\s:\-v=+]*[\d.]+\S*", re.I
)


VERSION = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)")


YEAR = re.compile(r"\b20(\d\d)-(\d\d)\b")


def numbers_in(version: str) -> tuple[int, ...]:
    """First `major.minor` in a version text that is not another package's, or ().

    >>> numbers_in("vLLM 0.6.5.dev964+mlperf50, Pytorch 2.7.0a0"), numbers_in("TensorRT 10.8, CUDA 12.8")
    ((0, 6), ())
    """
    found = VERSION.search(FOREIGN.sub(" ", version))
    return (int(found.group(1)), int(found.group(2))) if found else ()
