"""The image layers alone: forward in predictions, backward in single operations. The threads share the images."""

from fastnn.kernels.epoch.by_images import image_gradients, image_stages, pack_weights
from fastnn.kernels.images import CONV, KIND
from fastnn.kernels.inputs.images import gather_images, scatter_images
from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.ops.convolution import finish_gradient
from fastnn.kernels.team import STOP, atomic_load, own_part
from fastnn.kernels.vector.memory import array_at, flattened
from fastnn.kernels.vector.simd import lanes


@inlined
def gather_parameters(sources, parameters):
    """Copy arrays into `parameters`.

    sources: (K, 3) int64, for each array the address, the number of elements, and where they go
    """
    for k in range(len(sources)):
        address, count, target = sources[k, 0], sources[k, 1], sources[k, 2]
        array = array_at(address, count, parameters)
        for i in range(count):
            parameters[target + i] = array[i]


@kernel
def forward_images(member, plan, sources, parameters, scale, images, rows, own, offsets, out):
    """The outputs of the last image layer, as rows.

    Faster than a loop over images, because the lanes of vectors hold different images. A row's bits do not depend on
    the other rows, nor on the number of threads: each lane computes the same for its own image.

    member: this thread's place in the team; if the stop flag of its barrier is set, the call ends early
    plan: the image layers, a `Plan`
    sources: the weights and biases of the convolutions, see `gather_parameters`
    parameters: this thread's own, overwritten by them
    scale: the factor of the inputs
    images: (N, D) uint8 or the working dtype
    rows: (N,) int64, the numbers 0 to N - 1
    own: this thread's `Own`; the arrays of the backward pass are not used
    offsets: (n,) int64, scratch
    out: (N, outputs), overwritten
    """
    n, flat = lanes(own.values), flattened(out)
    gather_parameters(sources, parameters)
    pack_weights(plan, parameters, own.packed, False)
    for group in own_part(member, (len(rows) + n - 1) // n):
        if atomic_load(member.barrier, STOP):
            return
        some = rows[group * n : (group + 1) * n]
        gather_images(plan.rows, plan.n_inputs, images, some, scale, own.values, own.numbers, offsets)
        image_stages(plan, parameters, own.packed, own.values, own.argmax)
        scatter_images(
            plan.out_rows, plan.n_outputs, own.values, flat, group * n, len(some), own.numbers, offsets
        )  # fmt: skip


@kernel
def backward_images(member, plan, sources, parameters, images, dout, rows, own, offsets, n_chunks, gradients, dinp):
    """The gradients of the image layers: those of the inputs, and those of all parameters for each chunk of the rows.

    Faster than a loop over images, as `forward_images` is. The chunks do not depend on the number of threads, so
    neither do the bits of the sum of their gradients.

    images: (N, D), the working dtype
    dout: (N, outputs), the working dtype, the gradients of the outputs of the last layer
    n_chunks: the number of chunks
    gradients: (chunks * parameters,), overwritten, laid out like `parameters` for each chunk
    dinp: (N, D), overwritten, or (0, D) if the plan has no gradient of the inputs

    The other arguments are those of `forward_images`.
    """
    n, real, flat, size = lanes(own.values), own.values.dtype.type, flattened(dinp), len(parameters)
    gather_parameters(sources, parameters)
    pack_weights(plan, parameters, own.packed, True)
    n_groups = (len(rows) + n - 1) // n
    for chunk in own_part(member, n_chunks):
        for k in range(len(own.sums)):
            own.sums[k] = 0
        for group in range(n_groups * chunk // n_chunks, n_groups * (chunk + 1) // n_chunks):
            if atomic_load(member.barrier, STOP):
                return
            some = rows[group * n : (group + 1) * n]
            gather_images(plan.rows, plan.n_inputs, images, some, real(1), own.values, own.numbers, offsets)
            gather_images(plan.out_rows, plan.n_outputs, dout, some, real(1), own.dvalues, own.numbers, offsets)
            image_gradients(plan, own.values, own.argmax, own)
            if len(dinp):
                scatter_images(
                    plan.rows, plan.n_inputs, own.dvalues, flat, group * n, len(some), own.numbers, offsets
                )  # fmt: skip
        for s in range(len(plan.stages)):
            if plan.stages[s, KIND] == CONV:
                gradient = gradients[chunk * size : (chunk + 1) * size]
                finish_gradient(plan.stages[s], plan.table, own.sums, own.numbers, gradient)
