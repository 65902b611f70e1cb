"""Read versions of engines from the texts that tables of measurements hold."""

from __future__ import annotations

import re

#: Versions of other packages in a version text ("PyTorch 2.7.0", "CUDA: 12.8"), which say nothing of the engine's.
_OTHER_PACKAGES = re.compile(
    r"(pytorch|torch|cuda|rocm|tensorrt|rhel|ubuntu|triton|aiter|transformers)[\s:\-v=+]*[\d.]+\S*", re.I
)
#: `major.minor` of a release.
_RELEASE = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)")
#: Year and month in a version text that is a date.
YEAR_MONTH = re.compile(r"\b(20\d\d)-(\d\d)\b")


def numbers_in(version: str) -> tuple[int, ...]:
    """Return (major, minor) of the first release in the text `version` that is not another package's; () without one.

    >>> numbers_in("vLLM 0.6.5.dev964+mlperf50, Pytorch 2.7.0a0"), numbers_in("TensorRT 10.8, CUDA 12.8")
    ((0, 6), ())
    """
    found = _RELEASE.search(_OTHER_PACKAGES.sub(" ", version))
    return (int(found.group(1)), int(found.group(2))) if found else ()
