"""What training, export, server and client share, with neither torch nor gRPC: pictures, bundles, messages, the command."""
