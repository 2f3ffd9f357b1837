"""How the zoo is made: run ``python -m ptharness_zoo.recipe --help``.

Read in this order: ``domain`` (the skills), ``items`` (the evaluation items), ``corpus`` (what
is drawn for training), ``vocabulary`` and ``network`` (tokenizer and model), then one module per
stage: ``base``, ``sft``, ``grpo``, ``narrow``, ``student``.  ``measure`` tells what came out.
"""
