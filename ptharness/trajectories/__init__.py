"""What a stage was trained on, as its trainer read it: prompts and the completions given for them.

Formats are those of TRL's trainers, standard (text) and conversational (messages):
https://huggingface.co/docs/trl/dataset_formats. Files are hostile: nothing in them is run.
"""

from __future__ import annotations

from ptharness.trajectories.choose import choose
from ptharness.trajectories.files import content_digest, read_rows
from ptharness.trajectories.remembered import remembered_choice
from ptharness.trajectories.rows import Message, Trajectory, trajectories_of

__all__ = [
    "Message",
    "Trajectory",
    "choose",
    "content_digest",
    "read_rows",
    "remembered_choice",
    "trajectories_of",
]
