"""Choose the cost model of each row: `fallback` asks several in order, `defaults` says which and in what order."""
