"""After `warmup`, no call compiles or loads another kernel."""

import subprocess
import sys

# Each kind of call on inputs of each dtype, as arrays and as CSR matrices with both dtypes of indices. Settings that
# are whole numbers, or numbers of NumPy, are given where their type could reach a kernel.
PROGRAM = """
import itertools, warnings
import numpy as np, scipy.sparse
import fastnn
from fastnn.backends import compiled
from fastnn.kernels.compiler import cache

fastnn.warmup(("float32", "float64"))
ready = len(cache.compilations), cache.loads()
rng = np.random.default_rng(0)
labels = rng.integers(3, size=4200)
optimizers = [fastnn.SGD(), fastnn.SGD(momentum=np.float32(0.5)), fastnn.Adam(beta_1=0), fastnn.AdamW()]
optimizers += [fastnn.SGD(momentum=0.9, nesterov=True)]
dtypes = ["bool", "uint8", "int64", "float16", "float32", "float64", ">f4"]
rules = itertools.cycle(optimizers)
for real, dtype in itertools.product(["float32", "float64"], dtypes):
    network = fastnn.Network.initialize((40, 9, 3), dtype=real, input_scale=np.float32(0.5))
    numbers = (rng.random((4200, 40)) * 9).astype(dtype)
    zeros = (np.arange(40) % 3 == 0).astype(dtype)
    forms = [numbers, (numbers * zeros).astype(dtype)]
    if dtype not in ("float16", ">f4"):
        for index in (np.int32, np.int64):
            matrix = scipy.sparse.csr_matrix(forms[1])
            matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
            forms.append(matrix)
    for inputs in forms:
        compiled.predict_proba(network, inputs), compiled.predict_logits(network, inputs[:1])
        compiled.loss_and_gradients(network, inputs[:300], labels[:300])
        trainer = compiled.trainer(network, inputs, labels, next(rules), l2=1, dropout=0, label_smoothing=0)
        for batch_size in (np.int32(64), 4200):
            trainer.run_epoch(np.arange(4200, dtype=np.int32), batch_size, np.float32(1e-3))
    for output, targets in (("logistic", numbers[:, :2] > 0), ("identity", numbers[:, :2].astype(np.float64))):
        other = fastnn.Network.initialize((40, 65, 2), dtype=real, output=output, activation="tanh")
        compiled.trainer(other, forms[1], targets, next(rules), dropout=0.5).run_epoch(np.arange(4200), 300, 0)
        compiled.predict_proba(other, numbers)
    layers = [fastnn.Dense(8, "gelu"), fastnn.BatchNorm("relu"), fastnn.Dense(3)]
    layered = fastnn.Network.initialize((40,), layers, dtype=real)
    compiled.trainer(layered, numbers, labels, next(rules)).run_epoch(np.arange(300), 100, 0)
    compiled.predict_proba(layered, numbers[:5])
    hidden = [fastnn.Conv2D(3, 2), fastnn.MaxPool2D(2), fastnn.Dense(4), fastnn.Dense(3)]
    images = fastnn.Network.initialize((1, 5, 8), hidden, dtype=real)
    compiled.trainer(images, numbers, labels, next(rules)).run_epoch(np.arange(300), 100, 0)
    compiled.predict_proba(images, numbers[:1]), compiled.predict_proba(images, numbers[:200])
    for other in dtypes:
        weight, bias, sums = (np.ones(shape, each) for shape, each in (((40, 3), real), (3, other), ((5, 3), other)))
        inp = numbers[:5]
        compiled.matmul(inp, weight), compiled.matmul(weight.T, inp.T), compiled.dense_forward(inp, weight, bias)
        compiled.dense_backward(sums, inp, weight), compiled.relu(inp), compiled.relu_backward(sums, sums)
        if other not in ("bool",):
            compiled.softmax(sums), compiled.batch_norm_forward(sums, bias, bias, 1e-5)
        if other in ("float32", "float64"):
            compiled.softmax_cross_entropy(sums, labels[:5].astype("u2"), smoothing=0)
            compiled.logistic_cross_entropy(sums, sums.astype(bool)), compiled.squared_error(sums, inp[:, :3])
wide = scipy.sparse.csr_matrix((8200, 2**16 + 1), dtype=np.float32)
trainer = compiled.trainer(fastnn.Network.initialize((2**16 + 1, 1)), wide, np.zeros(8200, int), "sgd")
trainer.run_epoch(np.arange(8200), 8200, 0.1)
assert trainer.describe().kernel == "by rows"
print(*(compilation.kernel for compilation in cache.compilations[ready[0]:]), cache.loads() - ready[1])
"""


def test_no_call_compiles_a_kernel_after_warmup():
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "0\n"
