"""The registry of stages, in order: one line a stage."""

from chatling.pipeline.evaluate import EVAL, REPORT
from chatling.pipeline.origin import ORIGINAL
from chatling.pipeline.tokenize import TOKENIZER
from chatling.train.distill import DISTILL
from chatling.train.dpo import DPO
from chatling.train.extend import EXTEND
from chatling.train.finetune import MID, SFT
from chatling.train.pretrain import BASE
from chatling.train.rl import RL
from chatling.train.stage_base import Stage

STAGES: tuple[Stage, ...] = (
    ORIGINAL,
    TOKENIZER,
    BASE,
    EXTEND,
    MID,
    SFT,
    DISTILL,
    DPO,
    RL,
    EVAL,
    REPORT,
)
