"""Who runs when: room for images, the fair queue, batches and what they cost."""
