"""`python -m chatling`, which `torchrun -m chatling` needs."""

import sys

from chatling.cli import main

sys.exit(main())
