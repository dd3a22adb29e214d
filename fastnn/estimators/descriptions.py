"""The descriptions of the estimators' parameters, arguments and attributes, once for all classes and their methods.

A docstring names an entry by a line such as ``{X}``, and `described` replaces the line, so `help` shows the whole text.
"""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

WIDTH = 120
Documented = TypeVar("Documented", bound=Callable[..., Any])


class Entry(NamedTuple):
    """One entry of a numpydoc section: the type, and sentences in which names in braces are words of the class."""

    kind: str
    text: str


PARAMETERS = {
    "layers": Entry(
        "sequence of Layer and int, str, or None",
        "The hidden layers, such as ``[Conv2D(6, 5), MaxPool2D(), 120]``; a number is a dense layer of so many units. "
        "The text ``'conv:6x5,pool:2,120'`` means the same (`fastnn.network.layers.parse_layers`). "
        "The layer of the classes follows them. None: layers that suit the size of the images. From 16 x 16 pixels on, "
        "they are those of LeNet-5: ``[Conv2D(6, 5), MaxPool2D(), Conv2D(16, 5), MaxPool2D(), 120, 84]``. "
        "For smaller images, they are two convolutions with kernels of 3 x 3 and a dense layer. For 8 x 8 pixels, they "
        "are ``[Conv2D(16, 3), MaxPool2D(), Conv2D(32, 3), 64]``. Along a side of fewer than 3 pixels kernels have 1, "
        "and pools halve only 4 or more.",
    ),
    "loss": Entry(
        '{"squared_error", "poisson"}',
        "The loss. The squared error has identity outputs. The Poisson deviance has exponential outputs, for targets "
        "that are counts or other numbers of 0 or more.",
    ),
    "hidden_layer_sizes": Entry("int or sequence of int", "The number of units of each hidden layer; ``()`` for none."),
    "activation": Entry(
        "str or sequence of str",
        "The activation of all hidden layers, or one for each: a name in `fastnn.network.activations.ACTIVATIONS`.",
    ),
    "solver": Entry(
        '{"adam", "sgd", "lbfgs"}',
        "The optimizer: Adam, gradient descent, or L-BFGS, which takes all samples in each step.",
    ),
    "alpha": Entry(
        "float",
        "Strength of the L2 term: the loss of a batch includes ``alpha / 2 * (sum of squared weights)``, divided by "
        "the number of its samples, or by the sum of their weights.",
    ),
    "batch_size": Entry(
        'int or "auto"', 'Samples per step, at most N; "auto" is min(200, N). L-BFGS uses all samples.'
    ),
    "learning_rate": Entry(
        '{"constant", "invscaling", "adaptive"}',
        'How the rate of "sgd" changes. "invscaling" is ``learning_rate_init / (t + 1) ** power_t`` after t samples, '
        'updated once per epoch. "adaptive" divides the rate by 5 after more than `n_iter_no_change` epochs without '
        "improvement; training stops when the rate is at most 1e-6.",
    ),
    "learning_rate_init": Entry("float", 'The learning rate of the first epoch. For "sgd" and "adam".'),
    "power_t": Entry("float", 'The exponent of "invscaling".'),
    "max_iter": Entry("int", "The maximum number of epochs, or of iterations for L-BFGS."),
    "shuffle": Entry("bool", "Whether each epoch uses a new random order."),
    "random_state": Entry(
        "int, RandomState or None",
        "Determines the initial weights, the validation samples, the order of each epoch, and dropout.",
    ),
    "tol": Entry(
        "float",
        "The minimum improvement of the loss in `loss_curve_`, or of the validation score. L-BFGS has converged when "
        "every entry of the gradient has at most this magnitude.",
    ),
    "verbose": Entry("bool", "Whether to print one line per epoch."),
    "warm_start": Entry("bool", "Whether `fit` continues from the current weights."),
    "momentum": Entry("float", 'The part of the last step that the next one keeps, in [0, 1). For "sgd".'),
    "nesterovs_momentum": Entry("bool", 'Whether to use Nesterov\'s momentum. For "sgd" with a `momentum` above 0.'),
    "early_stopping": Entry(
        "bool",
        "Whether to hold out `validation_fraction` of the data (unless `fit` gets validation data), stop when the "
        "validation score ({score}) no longer improves, and keep the best weights. If training diverges after a best "
        'epoch, its weights are kept, with a ConvergenceWarning. For "sgd" and "adam".',
    ),
    "validation_fraction": Entry(
        "float", "The fraction of the training data that `early_stopping` holds out, above 0 and below 1."
    ),
    "beta_1": Entry("float", 'The decay rate of the mean of the gradients, in [0, 1). For "adam".'),
    "beta_2": Entry("float", 'The decay rate of the mean of the squared gradients, in [0, 1). For "adam".'),
    "epsilon": Entry("float", 'The number added to the root of the mean of the squared gradients. For "adam".'),
    "n_iter_no_change": Entry(
        "int or infinity",
        "The largest accepted number of consecutive epochs without improvement; after one more, training stops.",
    ),
    "max_fun": Entry("int", "The maximum number of loss evaluations of L-BFGS."),
    "backend": Entry(
        '{"auto", "numba", "numpy"}',
        '"numba" for the compiled kernels, "numpy" for the NumPy reference. "auto" is "numpy" for work that it is '
        "expected to finish before the process has the kernels, and to train with exponential outputs; see `backend_`. "
        "What goes on with a fit stays on its backend. Both agree within rounding.",
    ),
    "n_threads": Entry(
        "int or None",
        "The maximum number of threads; None for the cores available to the process, which joblib divides among its "
        "worker processes. The results do not depend on it.",
    ),
    "dropout": Entry(
        "float or sequence of float",
        "The fraction of hidden units dropped in each training step (Srivastava et al. 2014), in [0, 1). A sequence "
        "has that of the inputs first, then that of each hidden layer; the last one holds for all that follow. Not for "
        '"lbfgs".',
    ),
    "clip_norm": Entry(
        "float or None",
        "The largest norm of the gradient of a step over all layers; a longer one is shortened. Not with `clip_value`, "
        'and not for "lbfgs".',
    ),
    "clip_value": Entry(
        "float or None",
        'The largest magnitude of an entry of the gradient. Not with `clip_norm`, and not for "lbfgs".',
    ),
    "max_norm": Entry(
        "float or None",
        "The largest norm of the incoming weights of a unit, or of a filter of a convolution: longer ones are scaled "
        'down after each step (Srivastava et al. 2014). Not for "lbfgs".',
    ),
    "average": Entry(
        "str, EMA, SWA or None",
        'The average of the weights that the fitted network is, and that validation evaluates: "ema:0.999" is a moving '
        'average over the steps, "swa:0.25" the mean of the weights at the ends of the last quarter of `max_iter` '
        'epochs, which a fit that stops before never reaches; see `fastnn.optim.averaging`. Not for "lbfgs"; '
        '`partial_fit` has no "swa".',
    ),
    "initializer": Entry(
        '{"auto", "he", "he_uniform", "glorot", "glorot_normal", "lecun"} or None',
        "The distribution of the initial weights, with biases of 0; `fastnn.Network.initialize` describes them. None: "
        'weights and biases are those of scikit-learn, uniform as "glorot".',
    ),
    "transform_layer": Entry(
        "int", "The hidden layer whose outputs `transform` returns: 0 is the first one, -1 the last one."
    ),
    "augment": Entry(
        "str, Augment or None",
        'How the images of every epoch are changed at random, such as "shift=2,rotate=10"; see `fastnn.Augment`. '
        'It needs `image_shape`. Not for "lbfgs".',
    ),
    "class_weight": Entry(
        'dict of label to float, "balanced" or None',
        'The weight of each class in training, multiplied by `sample_weight`; 1 for classes not in the dict. "balanced"'
        " is ``N / (C * samples of the class)``. Not for multilabel targets.",
    ),
    "input_scale": Entry(
        "float", "A factor that the network applies to its inputs. With ``1 / 255``, pixels can stay uint8."
    ),
    "dtype": Entry(
        '{"float32", "float64"}',
        "The dtype of the computation and of its results. scikit-learn computes most inputs in float64.",
    ),
    "schedule": Entry(
        "str, function of (epoch, epochs), or None",
        "The factor of the learning rate in each of `max_iter` epochs; `fastnn.optim.schedules` describes the strings. "
        'For "sgd" and "adam" with a "constant" `learning_rate`.',
    ),
    "threshold": Entry(
        "float or None",
        "The smallest sufficient probability, in (0, 1]: `predict` returns `unknown_label` for rows whose largest "
        "probability is below it. Not for multilabel targets.",
    ),
    "unknown_label": Entry(
        "int, str or None",
        'The label for `threshold`. None means -1 if the labels are numbers, and "unknown" if they are strings.',
    ),
    "standardize": Entry(
        "bool",
        "Whether the network subtracts the mean of each input and divides by its standard deviation, both learned on X "
        "in `fit`, or in the first call of `partial_fit`, which needs at least two rows. Later calls and `warm_start` "
        "keep them. The columns of a sparse matrix are only divided. Files contain them, so raw rows go in.",
    ),
    "image_shape": Entry(
        "(int, int), or None",
        "The (height, width) of the image in each row of X, if it is one. Files, plots and `fastnn.explain` use it.",
    ),
    "buffer_blocks": Entry(
        "int",
        "The number of blocks of `fastnn.BlockedData` whose rows are shuffled together; fewer if `memory` demands it.",
    ),
    "memory": Entry(
        "int or str",
        'The number of bytes that the buffers of a fit on `fastnn.BlockedData` may use, such as "512MB".',
    ),
}
"""The parameters of the constructors."""

OF_IMAGES = {
    "activation": Entry(
        "str or sequence of str",
        "The activation of the convolutions and dense layers that name none in `layers`, or one for each of them: a "
        "name in `fastnn.network.activations.ACTIVATIONS`.",
    ),
    "dropout": Entry(
        "float or sequence of float",
        "The fraction of the inputs of each dense layer, unless it is the first layer, that each training step drops "
        "(Srivastava et al. 2014), in [0, 1). A sequence has that of the images' pixels first, then that of each of "
        'these layers; the last one holds for all that follow. Not for "lbfgs".',
    ),
    "transform_layer": Entry(
        "int",
        "The hidden layer whose outputs `transform` returns, flat: 0 is the first one, -1 the last one. Pools count.",
    ),
    "augment": Entry(
        "str, Augment or None",
        'How the images of every epoch are changed at random, such as "shift=2,rotate=10"; see `fastnn.Augment`. '
        'For images with one channel. Not for "lbfgs".',
    ),
    "image_shape": Entry(
        "sequence of 2 or 3 int, or None",
        "The shape of the image in each row of X: (height, width) or (channels, height, width), channel after channel. "
        "One size may be -1: what the others leave of a row, so (1, -1) makes a signal of each row. None: the shape of "
        "the images if X is an array of them, otherwise a square with one channel. If the number of columns is no "
        "square, it is an error. Files and plots use the shape if there is one channel.",
    ),
    "coefs_": Entry(
        "list of ndarray",
        "The weights of each layer that has some: (fan_in, fan_out) of a dense layer, (channels, kernel height, kernel "
        "width, output channels) of a convolution. Assigning an item or a whole list changes the network, as does "
        "changing an array in place. Shapes are fixed; the values are copied.",
    ),
    "n_layers_": Entry("int", "The number of layers, with pools and that of the inputs."),
    "n_features_in_": Entry("int", "The number of columns of X, or of the pixels of an image in all channels."),
}
"""The parameters and attributes that mean something else in the classes for images."""

ATTRIBUTES = {
    "classes_": Entry("ndarray of shape (C,)", "The sorted labels. For multilabel targets, the column numbers."),
    "coefs_": Entry(
        "list of ndarray of shape (fan_in, fan_out)",
        "The weights of each layer. Assigning an item or a whole list changes the network, as does changing an array "
        "in place. Shapes are fixed; the values are copied.",
    ),
    "intercepts_": Entry("list of ndarray of shape (fan_out,)", "The biases of each layer, assigned like `coefs_`."),
    "network_": Entry("Network", "The fitted network, for `fastnn.explain` and the plots; it holds the same arrays."),
    "backend_": Entry(
        '{"numba", "numpy"}', 'The backend that computed the last fit; with `backend="auto"`, the one that was chosen.'
    ),
    "loss_": Entry("float", "The training loss of the last epoch{loss}."),
    "loss_curve_": Entry("list of float", "The training loss of each epoch, of the same kind."),
    "best_loss_": Entry("float or None", "The lowest training loss. None with early stopping."),
    "validation_scores_": Entry(
        "list of float or None",
        "The validation score ({score}) of each epoch; NaN for an epoch that diverged. None without validation data.",
    ),
    "best_validation_score_": Entry("float or None", "The highest validation score. None without validation data."),
    "history_": Entry(
        "DataFrame",
        "One row per epoch of all fits since the weights were drawn: learning rate, seconds, and losses and accuracies "
        "of training and validation data, as in `fastnn.train`: {history}.",
    ),
    "n_iter_": Entry("int", "The number of epochs of the last fit."),
    "t_": Entry("int", "The number of samples trained on."),
    "n_layers_": Entry("int", "The number of layers, with that of the inputs."),
    "n_outputs_": Entry("int", "The number of outputs of the network."),
    "out_activation_": Entry("{outputs}", "The function of the outputs."),
    "n_features_in_": Entry("int", "The number of columns of X."),
    "image_shape_": Entry("(int, int, int)", "The (channels, height, width) of an image."),
    "feature_names_in_": Entry("ndarray of str", "The names of the columns, if X is a data frame with names."),
}
"""The attributes that a fit sets."""

ARGUMENTS = {
    "X": Entry(
        "array-like or SciPy sparse matrix of shape (N, D), or BlockedData",
        "The samples. uint8 stays uint8 and CSR stays sparse; other dtypes become the estimator's dtype. CNNClassifier "
        "takes images of shape (N, H, W) or (N, channels, H, W), too, but no sparse matrix. Of `fastnn.open_data`, "
        "some blocks at a time are in memory.",
    ),
    "y": Entry("{targets}", "{of_targets} None for BlockedData, which has the labels."),
    "sample_weight": Entry("array-like of shape (N,), or None", "The weight of each sample, 0 or more. None: all 1."),
    "classes": Entry(
        "array-like of shape (C,), or None",
        "All labels that can occur in any call. Required in the first call, but for BlockedData.",
    ),
    "validation_data": Entry(
        "(X, y) or (X, y, sample_weight), or None",
        "Data that are evaluated after each epoch: `history_` holds the losses and `validation_scores_` the scores. "
        "`early_stopping` uses these data instead of holding out a part of X; it needs them if X is BlockedData.",
    ),
    "X_val": Entry(
        "array-like or SciPy sparse matrix of shape (M, D), or None",
        "The inputs of the validation data: another way to give them, with the names of scikit-learn. A pipeline "
        'transforms `X_val` like X if it has ``transform_input=["X_val"]``; it cannot transform `validation_data`.',
    ),
    "y_val": Entry("array-like of shape (M,) or (M, C), or None", "The targets of the validation data."),
    "sample_weight_val": Entry("array-like of shape (M,), or None", "The weights of the validation data."),
    "checkpoint": Entry(
        "str, path or Checkpoint, or None",
        "A file for the state of the fit, see `fastnn.Checkpoint`. If it exists, the fit goes on from it, to the same "
        "bits as one that was never stopped; a fit that had ended is restored. The parameters and the data must be "
        'those of that fit, and `random_state` an integer. Not for ``warm_start=True`` and the solver "lbfgs".',
    ),
    "self": Entry("", "The fitted estimator."),
    "model": Entry("Model", "What `fastnn.load` returns. Its network is used, not copied."),
    "path": Entry("str or path-like", "The file to write. An existing file is replaced."),
}
"""The arguments of methods."""

RAISES = {
    "ValueError": Entry("", "If a parameter or the data are invalid."),
    "TypeError": Entry("", "If X or y is not an array."),
    "DivergenceError": Entry(
        "",
        "If the loss becomes NaN or infinite, except after a best epoch with `early_stopping`. It is a ValueError. "
        "Its `result` holds the network of the last good epoch.",
    ),
    "TrainingInterrupted": Entry(
        "", "On Ctrl-C; it is a KeyboardInterrupt. The estimator is then fitted up to the last complete epoch."
    ),
}
"""The errors of a fit."""

_OF_CLASSIFIERS = {
    "score": "the accuracy",
    "loss": "",
    "history": "the accuracies ignore sample weights",
    "outputs": '{"softmax", "logistic"}',
    "targets": "array-like of shape (N,) or (N, C)",
    "of_targets": "Labels (N,) of any sortable type, or indicators (N, C) of 0 and 1 for multilabel targets.",
}
WORDS = {
    "NetworkClassifier": _OF_CLASSIFIERS,
    "MLPClassifier": _OF_CLASSIFIERS,
    "CNNClassifier": _OF_CLASSIFIERS,
    "MLPRegressor": {
        "score": "R^2",
        "loss": ', as scikit-learn reports it: the squared error is the mean over the targets, while "poisson" is '
        "their sum",
        "history": "losses are sums over the targets, and accuracies are NaN",
        "outputs": '{"identity", "exp"}',
        "targets": "array-like of shape (N,) or (N, C)",
        "of_targets": 'Finite numbers; 0 or more for ``loss="poisson"``.',
    },
}
"""The words of each class for the names in braces."""


def described(class_name: str) -> Callable[[Documented], Documented]:
    """Return a decorator that fills the docstring of a class of that name, or of one of its methods.

    A line ``{parameters}`` or ``{attributes}`` stands for all of the class, and ``{raises}`` for the errors of a fit.
    Another line in braces stands for an argument.
    """
    words, own = WORDS[class_name], OF_IMAGES if class_name == "CNNClassifier" else {}
    is_absent = {"classes_": class_name == "MLPRegressor", "image_shape_": class_name != "CNNClassifier"}

    def fill(documented: Documented) -> Documented:
        if documented.__doc__ is None:  # Python ran with -OO
            return documented
        lines: list[str] = []
        for line in documented.__doc__.splitlines():
            name, indent = line.strip(), line[: len(line) - len(line.lstrip())]
            if name == "{parameters}":
                lines += _section(_of_signature(documented, PARAMETERS | own), words, indent)
            elif name == "{attributes}":
                names = [each for each in ATTRIBUTES if not is_absent.get(each)]
                lines += _section({each: (ATTRIBUTES | own)[each] for each in names}, words, indent)
            elif name == "{raises}":
                lines += _section(RAISES, words, indent)
            elif name.startswith("{") and name[1:-1] in ARGUMENTS:
                lines += _section({name[1:-1]: ARGUMENTS[name[1:-1]]}, words, indent)
            else:
                lines.append(line)
        documented.__doc__ = "\n".join(lines)
        return documented

    return fill


def _of_signature(estimator: Callable[..., Any], descriptions: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries of a constructor's parameters in their order, with their defaults."""
    entries = {}
    for name, parameter in inspect.signature(estimator).parameters.items():
        default = f'"{parameter.default}"' if isinstance(parameter.default, str) else repr(parameter.default)
        kind, text = descriptions[name]
        entries[name] = Entry(f"{kind}, default={default}", text)
    return entries


def _section(entries: Mapping[str, Entry], words: Mapping[str, str], indent: str) -> list[str]:
    """Return the lines of entries, wrapped at `WIDTH`."""
    lines = []
    for name, (kind, text) in entries.items():
        kind, text = _with_words(kind, words), _with_words(text, words)
        lines.append(f"{indent}{name} : {kind}" if kind else indent + name)
        inner = indent + 4 * " "
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=inner, subsequent_indent=inner, break_on_hyphens=False, break_long_words=False
        )
    return lines


def _with_words(text: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return text
