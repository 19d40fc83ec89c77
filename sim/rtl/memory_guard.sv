// Stands between the machine and its memory: counts accesses outside the windows that the host gave, and answers SLVERR in the
// memory's place when asked to. It passes everything else, in the same cycle.
//
// Windows: bytes from a base, wrapping where addresses wrap; their last beat counts as a whole. Ports may read the Program,
// port 0 also the images, and write the results; a burst that is not wholly inside one window counts once.
// Faults: 1 + the read beats (of all ports) or write responses taken before the first that answers SLVERR, as all after it do;
// 0 for none, which also sets the count back. A cycle's beats count together.

module memory_guard #(
    parameter int PORTS = 2,
    parameter int BEAT_BYTES = 16,
    parameter int ADDRESS_WIDTH = 32
) (
    input  logic                                clk,
    input  logic [ADDRESS_WIDTH-1:0]            program_base, image_base, result_base,
    input  logic [ADDRESS_WIDTH:0]              program_size, image_size, result_size,
    input  logic                                clear,  // sets the two counts back
    output logic [31:0]                         outside_reads, outside_writes,
    input  logic [31:0]                         read_fault, write_fault,
    input  logic [PORTS-1:0][ADDRESS_WIDTH-1:0] araddr,
    input  logic [PORTS-1:0][7:0]               arlen,
    input  logic [PORTS-1:0]                    arvalid, arready,
    input  logic [ADDRESS_WIDTH-1:0]            awaddr,
    input  logic [7:0]                          awlen,
    input  logic                                awvalid, awready,
    input  logic [PORTS-1:0]                    rvalid, rready,
    input  logic [PORTS-1:0][1:0]               memory_rresp,
    output logic [PORTS-1:0][1:0]               rresp,
    input  logic                                bvalid, bready,
    input  logic [1:0]                          memory_bresp,
    output logic [1:0]                          bresp
);
    localparam logic [1:0] SLVERR = 2'b10;
    localparam int WIDE = ADDRESS_WIDTH + 1;

    logic [31:0] beats, responses;  // taken since the faults were last 0

    function automatic logic fits(input logic [ADDRESS_WIDTH-1:0] address, input logic [7:0] length,
                                    input logic [ADDRESS_WIDTH-1:0] base, input logic [ADDRESS_WIDTH:0] size);
        logic [ADDRESS_WIDTH-1:0] offset = address - base;
        return {1'b0, offset} + (WIDE'(length) + 1) * WIDE'(BEAT_BYTES) < size + WIDE'(BEAT_BYTES);
    endfunction

    always_comb begin
        for (int p = 0; p < PORTS; p++) rresp[p] = read_fault != 0 && beats + 1 >= read_fault ? SLVERR : memory_rresp[p];
        bresp = write_fault != 0 && responses + 1 >= write_fault ? SLVERR : memory_bresp;
    end

    always_ff @(posedge clk) begin
        outside_reads <= outside_reads + $countones(reads_outside());
        if (awvalid && awready && !fits(awaddr, awlen, result_base, result_size)) outside_writes <= outside_writes + 1;
        if (clear) {outside_reads, outside_writes} <= '0;
        beats <= read_fault == 0 ? 0 : beats + $countones(rvalid & rready);
        responses <= write_fault == 0 ? 0 : responses + 32'(bvalid && bready);
    end

    function automatic logic [PORTS-1:0] reads_outside();
        for (int p = 0; p < PORTS; p++)
            reads_outside[p] = arvalid[p] && arready[p] && !fits(araddr[p], arlen[p], program_base, program_size)
                && !(p == 0 && fits(araddr[p], arlen[p], image_base, image_size));
    endfunction
endmodule
