"""From a dataset to a model that writes like its author: a base, supervised fine-tuning, preference optimisation.

Open ``sft.py`` first. Importing this package loads no engine: torch and its company are imported when a run starts.
"""
