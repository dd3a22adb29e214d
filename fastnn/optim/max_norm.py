"""Max-norm: after each update, the incoming weights of every unit are scaled down to a norm that they exceed."""

import numpy as np


def limit_norms(weight: np.ndarray, limit: float) -> None:
    """Scale the incoming weights of each unit down to the Euclidean norm `limit` if theirs is larger, in place.

    A constraint of the weights, not a term of the loss: a weight vector below the limit stays as it is (Srivastava et
    al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 5.1).

    Parameters
    ----------
    weight : ndarray of shape (..., units), C-contiguous
        The weights of a layer; the filter of a convolution, with all its channels, is a unit.
    limit : float
        Above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim.max_norm import limit_norms
    >>> weight = np.array([[3.0, 0.3], [4.0, 0.4]])
    >>> limit_norms(weight, 1.0)
    >>> weight
    array([[0.6, 0.3],
           [0.8, 0.4]])
    """
    columns = weight.reshape(-1, weight.shape[-1])
    norms = np.sqrt(np.einsum("ij,ij->j", columns, columns, dtype=np.float64))
    if (norms > limit).any():
        columns *= np.divide(limit, norms, out=np.ones_like(norms), where=norms > limit).astype(weight.dtype)
