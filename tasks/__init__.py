"""SeqIO tasks over explanation TFRecords. Importing `exaranker.tasks` registers them."""

if __name__ != "exaranker.tasks":
    raise ImportError(f"import exaranker.tasks, not {__name__}: a second copy would register every task twice")
