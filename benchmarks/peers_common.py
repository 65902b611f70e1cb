"""Agreement of two predictors, as all comparisons with peers measure it."""

from __future__ import annotations

import numpy as np
import pandas as pd


def compared(ours: np.ndarray, theirs: np.ndarray) -> dict[str, object]:
    """Ratio of ours over theirs (median, and the range that holds 80 %) and rank correlation.

    ours, theirs: (N,) predictions of the same quantities. Pairs where either is not a positive number are left out.
    """
    both = np.isfinite(ours) & np.isfinite(theirs) & (ours > 0) & (theirs > 0)
    ratio = ours[both] / theirs[both]
    if len(ratio) < 2:
        return {
            "compared values": int(both.sum()),
            "perfmodel / peer, median": "-",
            "80 % of the ratios": "-",
            "rank correlation": "-",
        }
    low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    ranks = [pd.Series(v[both]).rank() for v in (ours, theirs)]
    same = float(ranks[0].corr(ranks[1]))
    return {
        "compared values": int(both.sum()),
        "perfmodel / peer, median": f"{middle:.2f}",
        "80 % of the ratios": f"{low:.2f} to {high:.2f}",
        "rank correlation": f"{same:.3f}",
    }
