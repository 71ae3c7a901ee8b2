"""What the GPU engines are made of: the device, the frame's arithmetic, buffers and graphs, TensorRT's plans."""
