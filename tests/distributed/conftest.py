"""The workers are programs, not modules to collect: importing transformers takes seconds, and it may be missing."""

collect_ignore = ["dga_worker.py", "positions_worker.py", "seq2seq_worker.py", "st_worker.py", "worker.py"]
