"""From a configuration to what a board needs: Verilog, project, header, documentation, resources."""
