"""How the zoo is made; `ptharness zoo train` runs it.

Read in this order: ``domain`` (the skills), ``items`` (the evaluation items), ``corpus`` (what is
drawn for training), ``vocabulary`` and ``network`` (tokenizer and model), ``trl_runs`` and
``rollouts`` (what the stages share), then one module per stage, in the order of
``ptharness_zoo.stages``. ``one_stage`` is the process that each of them runs in.
"""
