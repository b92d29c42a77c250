"""What torch reads of the environment when it is imported."""

import os

# of what belongs together, nothing is set where the user has set any of it
SETTINGS = (
    # GNU's OpenMP has threads that wait spin for milliseconds: beside another busy process they
    # then take the time that those need which they wait for
    ({"GOMP_SPINCOUNT": "1000"}, {"OMP_WAIT_POLICY"}),
    # a GPU's memory is taken in pieces that grow: with batches of different lengths, pieces of a
    # fixed size leave gaps that nothing fits into
    (
        {"PYTORCH_ALLOC_CONF": "expandable_segments:True"},
        {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"},
    ),
)


def set_environment() -> None:
    """How torch's threads wait and how it takes a GPU's memory, unless the user's environment says
    so. Has no effect once torch is imported.
    """
    for chosen, others in SETTINGS:
        if not (chosen.keys() | others) & os.environ.keys():
            os.environ.update(chosen)
