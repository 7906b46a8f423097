"""A finished run in the forms that other programs take: PEFT, GGUF, merged; its model card; a hub."""
