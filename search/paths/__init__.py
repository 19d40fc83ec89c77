"""Which attentions to skip: CKA and Path-Score."""
