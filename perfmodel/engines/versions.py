"""Read versions of engines from the texts that tables of measurements hold."""

from __future__ import annotations

import re

#: Versions of other packages in a version text ("PyTorch 2.7.0", "CUDA: 12.8"), which say nothing of the engine's.
_OTHER_PACKAGES = re.compile(
    r"(pytorch|torch|cuda|rocm|tensorrt|rhel|ubuntu|triton|aiter|transformers)[\s:\-v=+]*[\d.]+\S*", re.I
)
#: `major.minor` of a release.
_RELEASE = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)")
#: Number of a build, as llama.cpp counts its own ("b4384").
_BUILD = re.compile(r"\bb(\d{3,})\b")
#: TensorRT in a version text, and the first that a release of TensorRT-LLM after 0.20 depends on (its release notes:
#: 9.3 for 0.9, 10.0 for 0.10, 10.3 for 0.12, 10.11 for 0.21 and 1.0).
_TENSORRT = re.compile(r"tensorrt[\s:\-v=+]*(\d+)\.(\d+)", re.I)
_TENSORRT_AFTER_0_20 = (10, 11)
#: Year and month in a version text that is a date.
YEAR_MONTH = re.compile(r"\b(20\d\d)-(\d\d)\b")


def numbers_in(version: str, *, builds: bool = False) -> tuple[int, ...]:
    """Return (major, minor) of the first release in the text `version` that is not another package's; () without one.

    builds: whether the engine numbers builds in place of releases, which are (build,): a release beside them, or alone,
    is that of a program around the engine (Ollama 0.12.3) and says nothing.

    >>> numbers_in("vLLM 0.6.5.dev964+mlperf50, Pytorch 2.7.0a0"), numbers_in("TensorRT 10.8, CUDA 12.8")
    ((0, 6), ())
    >>> numbers_in("llama.cpp b4384, Vulkan 1.3", builds=True), numbers_in("Ollama 0.12.3", builds=True)
    ((4384,), ())
    """
    text = _OTHER_PACKAGES.sub(" ", version)
    if builds:
        build = _BUILD.search(text)
        return (int(build.group(1)),) if build else ()
    found = _RELEASE.search(text)
    return (int(found.group(1)), int(found.group(2))) if found else ()


def release_on_tensorrt(version: str) -> tuple[int, ...]:
    """Return the newest (major, minor) of TensorRT-LLM on the TensorRT in the text `version`; () where it says nothing.

    TensorRT from 10.11 on is that of several eras.

    >>> release_on_tensorrt("TensorRT 10.2.0, CUDA 12.4"), release_on_tensorrt("TensorRT 10.11")
    ((0, 20), ())
    """
    found = _TENSORRT.search(version)
    older = found is not None and (int(found.group(1)), int(found.group(2))) < _TENSORRT_AFTER_0_20
    return (0, 20) if older else ()
