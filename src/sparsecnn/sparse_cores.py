"""Which weights sparse tensor cores take, whatever multiplies on them."""

MULTIPLE = 16
"""In fp16 and bf16, of which rows and columns of the sparse matrix are multiples.

Such is the matrix of one sparse instruction (``mma.sp.m16n8k16`` of NVIDIA's PTX ISA), and what
torch asks of a matrix for cuSPARSELt (`torch.sparse.SparseSemiStructuredTensorCUSPARSELT`). Other
kernels ask for more: torch's CUTLASS backend for 32 rows and 64 columns, int8 for 32 and 32.
"""


def sparse_core_misfit(rows: int, channels: int) -> str:
    """Why sparse tensor cores do not take a layer of that shape in fp16; empty if they do.

    `rows` are the output channels of a group of the convolution, `channels` its input channels.
    Kernel positions do not count: a convolution walks along the channels at each of them.
    """
    if rows % MULTIPLE == 0 and channels % MULTIPLE == 0:
        return ""
    return (
        f"sparse tensor cores take output and input channels in multiples of {MULTIPLE}, "
        f"not {rows} and {channels} per group"
    )
