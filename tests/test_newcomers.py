"""Workers that come in while others are at work."""

import numpy as np
import pytest
import scipy.sparse

from shmps import LogisticRegression


@pytest.mark.parametrize("mode", ["sync", "async", "hogwild"])
@pytest.mark.parametrize("batch_size", [0, 10])
def test_a_newcomer_for_which_there_is_no_row_leaves(mode, batch_size):
    settings = {"mode": mode, "batch_size": batch_size, "workers": 2, "iterations": 5}
    X, y = scipy.sparse.csr_matrix(np.eye(2)), [0, 1]
    alone, joined = (LogisticRegression(join_at=at, **settings).fit(X, y) for at in (None, 1))
    assert joined.n_iter_ == 5 and joined.result_.rows == 10
    if mode == "sync":
        assert joined.coef_.tobytes() == alone.coef_.tobytes()
