// A stand-in for the machine in tests of the fast top and the memory: port 0 copies the first beats of an image to the
// head of its record, port 1 reads the Program meanwhile; no computation. Registers are those of hw/isa.py, in words.
module accelerator (
    input  logic         clk, rst,
    output logic         interrupt,
    input  logic [11:0]  s_axi_awaddr, input logic s_axi_awvalid, output logic s_axi_awready,
    input  logic [31:0]  s_axi_wdata, input logic [3:0] s_axi_wstrb, input logic s_axi_wvalid, output logic s_axi_wready,
    output logic [1:0]   s_axi_bresp, output logic s_axi_bvalid, input logic s_axi_bready,
    input  logic [11:0]  s_axi_araddr, input logic s_axi_arvalid, output logic s_axi_arready,
    output logic [31:0]  s_axi_rdata, output logic [1:0] s_axi_rresp, output logic s_axi_rvalid, input logic s_axi_rready,
    output logic         m0_axi_arid, output logic [31:0] m0_axi_araddr, output logic [7:0] m0_axi_arlen,
    output logic [2:0]   m0_axi_arsize, output logic [1:0] m0_axi_arburst, output logic m0_axi_arvalid,
    input  logic         m0_axi_arready, m0_axi_rid, input logic [127:0] m0_axi_rdata, input logic [1:0] m0_axi_rresp,
    input  logic         m0_axi_rlast, m0_axi_rvalid, output logic m0_axi_rready,
    output logic         m0_axi_awid, output logic [31:0] m0_axi_awaddr, output logic [7:0] m0_axi_awlen,
    output logic [2:0]   m0_axi_awsize, output logic [1:0] m0_axi_awburst, output logic m0_axi_awvalid,
    input  logic         m0_axi_awready, output logic [127:0] m0_axi_wdata, output logic [15:0] m0_axi_wstrb,
    output logic         m0_axi_wlast, m0_axi_wvalid, input logic m0_axi_wready, m0_axi_bid,
    input  logic [1:0]   m0_axi_bresp, input logic m0_axi_bvalid, output logic m0_axi_bready,
    output logic         m1_axi_arid, output logic [31:0] m1_axi_araddr, output logic [7:0] m1_axi_arlen,
    output logic [2:0]   m1_axi_arsize, output logic [1:0] m1_axi_arburst, output logic m1_axi_arvalid,
    input  logic         m1_axi_arready, m1_axi_rid, input logic [127:0] m1_axi_rdata, input logic [1:0] m1_axi_rresp,
    input  logic         m1_axi_rlast, m1_axi_rvalid, output logic m1_axi_rready
);
    localparam int COPY_BEATS = 2, PROGRAM_BURST = 16;
    localparam int CONTROL = 2, STATUS = 3, PROGRAM_BASE = 5, PROGRAM_BYTES = 7, IMAGE_BASE = 9, IMAGE_STRIDE = 11;
    localparam int IMAGE_COUNT = 12, RESULT_BASE = 13, RESULT_STRIDE = 15, IMAGES_DONE = 20, CYCLES = 21, WEIGHT_BYTES = 36;
    typedef enum {IDLE, READ, COPY, WRITE, DATA, ANSWER, PROGRAM} state_t;
    state_t state;
    logic [31:0] registers[64], image, offset;
    logic [127:0] beats[COPY_BEATS];
    int count;
    logic done, failed;

    assign {s_axi_bresp, s_axi_rresp} = '0;
    assign {m0_axi_arid, m0_axi_awid, m1_axi_arid} = '0;
    assign {m0_axi_arsize, m0_axi_awsize, m1_axi_arsize} = {3{3'd4}};
    assign {m0_axi_arburst, m0_axi_awburst, m1_axi_arburst} = {3{2'd1}};
    assign m0_axi_arlen = 8'(COPY_BEATS - 1);
    assign m0_axi_awlen = 8'(COPY_BEATS - 1);
    assign m1_axi_arlen = 8'(PROGRAM_BURST - 1);
    assign m0_axi_araddr = registers[IMAGE_BASE] + image * registers[IMAGE_STRIDE];
    assign m0_axi_awaddr = registers[RESULT_BASE] + image * registers[RESULT_STRIDE];
    assign m1_axi_araddr = registers[PROGRAM_BASE] + offset;
    assign m0_axi_arvalid = state == READ;
    assign m0_axi_rready = state == COPY;
    assign m0_axi_awvalid = state == WRITE;
    assign m0_axi_wvalid = state == DATA;
    assign m0_axi_wdata = beats[count];
    assign m0_axi_wstrb = '1;
    assign m0_axi_wlast = count == COPY_BEATS - 1;
    assign m0_axi_bready = 1;
    assign m1_axi_arvalid = state != IDLE && offset < registers[PROGRAM_BYTES];
    assign m1_axi_rready = 1;
    assign {s_axi_awready, s_axi_wready} = {2{s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid}};
    assign s_axi_arready = s_axi_arvalid && !s_axi_rvalid;
    assign interrupt = done;

    always_ff @(posedge clk) begin
        if (s_axi_bready) s_axi_bvalid <= 0;
        if (s_axi_awready) begin
            s_axi_bvalid <= 1;
            registers[s_axi_awaddr[7:2]] <= s_axi_wdata;
        end
        if (s_axi_rready) s_axi_rvalid <= 0;
        if (s_axi_arready) begin
            s_axi_rvalid <= 1;
            s_axi_rdata <= registers[s_axi_araddr[7:2]];
            if (s_axi_araddr[7:2] == STATUS) s_axi_rdata <= {21'd0, failed ? 3'd6 : 3'd0, 5'd0, failed, done, state != IDLE};
        end
        if (m1_axi_arvalid && m1_axi_arready) offset <= offset + PROGRAM_BURST * 16;
        if (m1_axi_rvalid) registers[WEIGHT_BYTES] <= registers[WEIGHT_BYTES] + 16;
        if ((m0_axi_rvalid && m0_axi_rresp != 0) || (m0_axi_bvalid && m0_axi_bresp != 0)) failed <= 1;
        if (state != IDLE) registers[CYCLES] <= registers[CYCLES] + 1;
        case (state)
            IDLE: if (s_axi_awready && s_axi_awaddr[7:2] == CONTROL) begin
                if (s_axi_wdata[0]) state <= READ;
                {image, offset, done, failed} <= '0;
                registers[IMAGES_DONE] <= 0;
                registers[CYCLES] <= 0;
                registers[WEIGHT_BYTES] <= 0;
            end
            READ: if (m0_axi_arready) begin
                state <= COPY;
                count <= 0;
            end
            COPY: if (m0_axi_rvalid) begin
                beats[count] <= m0_axi_rdata;
                count <= m0_axi_rlast ? 0 : count + 1;
                if (m0_axi_rlast) state <= WRITE;
            end
            WRITE: if (m0_axi_awready) state <= DATA;
            DATA: if (m0_axi_wready) begin
                count <= m0_axi_wlast ? 0 : count + 1;
                if (m0_axi_wlast) state <= ANSWER;
            end
            ANSWER: if (m0_axi_bvalid) begin
                image <= image + 1;
                registers[IMAGES_DONE] <= image + 1;
                state <= image + 1 == registers[IMAGE_COUNT] ? PROGRAM : READ;
            end
            PROGRAM: if (registers[WEIGHT_BYTES] >= registers[PROGRAM_BYTES]) begin
                state <= IDLE;
                done <= 1;
            end
            default: state <= IDLE;
        endcase
        if (rst) begin
            state <= IDLE;
            {done, failed, s_axi_bvalid, s_axi_rvalid} <= '0;
        end
    end
endmodule
