// The memory behind every AXI port of the machine: one block of bytes, one bandwidth, answers in order per port.
// Its timing is the recurrence of docs/memory-model.md, of which hw/memory_timing.py is the Python form.
//
// Plusargs: +memory=FILE (content, whole beats), +dump=FILE, +dump_offset=N and +dump_bytes=N (what `dump` writes there),
// +latency=N, +bytes_per_cycle=N, +outstanding=N.
//
// A burst that breaks AXI's rules, or one the machine must not send (not INCR, not of full beats), ends the simulation.

module memory_model #(
    parameter int PORTS = 2,          // port 0 also writes
    parameter int BEAT_BYTES = 16,
    parameter int ADDRESS_WIDTH = 32,
    parameter int CAPACITY_BYTES = 1 << 24
) (
    input  logic                                 clk,
    input  logic                                 dump,
    input  logic [PORTS-1:0]                     arid,
    input  logic [PORTS-1:0][ADDRESS_WIDTH-1:0]  araddr,
    input  logic [PORTS-1:0][7:0]                arlen,
    input  logic [PORTS-1:0][2:0]                arsize,
    input  logic [PORTS-1:0][1:0]                arburst,
    input  logic [PORTS-1:0]                     arvalid,
    output logic [PORTS-1:0]                     arready,
    output logic [PORTS-1:0]                     rid,
    output logic [PORTS-1:0][BEAT_BYTES*8-1:0]   rdata,
    output logic [PORTS-1:0][1:0]                rresp,
    output logic [PORTS-1:0]                     rlast,
    output logic [PORTS-1:0]                     rvalid,
    input  logic [PORTS-1:0]                     rready,
    input  logic                                 awid,
    input  logic [ADDRESS_WIDTH-1:0]             awaddr,
    input  logic [7:0]                           awlen,
    input  logic [2:0]                           awsize,
    input  logic [1:0]                           awburst,
    input  logic                                 awvalid,
    output logic                                 awready,
    input  logic [BEAT_BYTES*8-1:0]              wdata,
    input  logic [BEAT_BYTES-1:0]                wstrb,
    input  logic                                 wlast,
    input  logic                                 wvalid,
    output logic                                 wready,
    output logic                                 bid,
    output logic [1:0]                           bresp,
    output logic                                 bvalid,
    input  logic                                 bready
);
    localparam int SLOTS = 64;  // greatest +outstanding
    localparam longint BEAT = longint'(BEAT_BYTES);
    localparam logic [1:0] OKAY = 2'b00, DECERR = 2'b11, INCR = 2'b01;

    longint latency = 120, bytes_per_cycle = 32, outstanding = 4;
    longint now;           // number of the cycle that ends at the coming edge
    longint horizon;       // bytes of bandwidth that exist up to the end of the next cycle
    longint bus_free;      // bytes of bandwidth given away, idle time included
    logic [BEAT_BYTES*8-1:0] words[CAPACITY_BYTES / BEAT_BYTES];
    longint word_count;    // beats that the file holds: what exists of the memory

    // Variables of two-state types start at 0.
    // Read bursts of each port, oldest at `read_head`. A slot is free once its burst's last beat was taken.
    longint read_start[PORTS][SLOTS], read_word[PORTS][SLOTS];
    int read_beats[PORTS][SLOTS];
    logic read_id[PORTS][SLOTS];
    int read_head[PORTS], read_tail[PORTS], read_waiting[PORTS], read_in_flight[PORTS], read_beat[PORTS];

    // Write bursts: addresses accepted, then responses due.
    longint write_word[SLOTS], response_end[SLOTS];
    int write_beats[SLOTS];
    logic write_id[SLOTS];
    logic write_outside[SLOTS];
    int write_head, write_tail, write_waiting, write_in_flight, write_beat;
    int response_head, response_waiting;

    function automatic int next(input int slot);
        return slot == SLOTS - 1 ? 0 : slot + 1;
    endfunction

    function automatic void check_burst(input string channel, input logic [ADDRESS_WIDTH-1:0] address,
                                        input logic [7:0] length, input logic [2:0] size, input logic [1:0] burst);
        int first = int'(address[11:0]) / BEAT_BYTES * BEAT_BYTES;
        if (burst != INCR || (1 << size) != BEAT_BYTES)
            $fatal(1, "%s burst must be INCR of full beats, got burst %0d and size %0d", channel, burst, size);
        if (first + (int'(length) + 1) * BEAT_BYTES > 4096)
            $fatal(1, "%s burst must not cross 4 KiB, got address %0h and %0d beats", channel, address, int'(length) + 1);
    endfunction

    function automatic void accept_read(input int port);
        longint ready_at = (now + latency) * bytes_per_cycle;
        longint start = bus_free > ready_at ? bus_free : ready_at;
        int slot = read_tail[port];
        check_burst("Read", araddr[port], arlen[port], arsize[port], arburst[port]);
        read_start[port][slot] = start;
        read_word[port][slot] = longint'(araddr[port]) / BEAT;
        read_beats[port][slot] = int'(arlen[port]) + 1;
        read_id[port][slot] = arid[port];
        read_tail[port] = next(slot);
        read_waiting[port]++;
        read_in_flight[port]++;
        bus_free = start + (longint'(arlen[port]) + 1) * BEAT;
    endfunction

    function automatic void accept_write_beat();
        int slot = write_head;
        longint index = write_word[slot] + longint'(write_beat);
        longint end_of_latency = (now + latency + 1) * bytes_per_cycle;
        logic last = write_beat + 1 == write_beats[slot];
        if (wlast != last) $fatal(1, "WLAST must mark beat %0d of a write burst alone", write_beats[slot]);
        if (index >= word_count) write_outside[slot] = 1;
        else for (int i = 0; i < BEAT_BYTES; i++) if (wstrb[i]) words[int'(index)][i*8+:8] = wdata[i*8+:8];
        if (bus_free < now * bytes_per_cycle) bus_free = now * bytes_per_cycle;
        bus_free += BEAT;
        write_beat++;
        if (last) begin
            response_end[slot] = bus_free > end_of_latency ? bus_free : end_of_latency;
            write_beat = 0;
            write_head = next(slot);
            write_waiting--;
            response_waiting++;
        end
    endfunction

    // The state is this process's own, so it is assigned in order, as the rule is told.
    /* verilator lint_off BLKSEQ */
    always @(posedge clk) begin : serve
        horizon = (now + 2) * bytes_per_cycle;
        for (int p = 0; p < PORTS; p++) begin
            if (rvalid[p] && rready[p] && rlast[p]) read_in_flight[p]--;
            if (arvalid[p] && arready[p]) accept_read(p);
            arready[p] <= longint'(read_in_flight[p]) < outstanding;
            if (!rvalid[p] || rready[p]) begin
                rvalid[p] <= 0;
                if (read_waiting[p] != 0) begin : present
                    automatic int slot = read_head[p];
                    automatic longint index = read_word[p][slot] + longint'(read_beat[p]);
                    automatic logic last = read_beat[p] + 1 == read_beats[p][slot];
                    if (read_start[p][slot] + (longint'(read_beat[p]) + 1) * BEAT <= horizon) begin
                        automatic logic outside = index >= word_count;
                        automatic logic [BEAT_BYTES*8-1:0] beat = '0;
                        if (!outside) beat = words[int'(index)];
                        rvalid[p] <= 1;
                        rlast[p] <= last;
                        rid[p] <= read_id[p][slot];
                        rresp[p] <= outside ? DECERR : OKAY;
                        rdata[p] <= beat;
                        read_beat[p] = last ? 0 : read_beat[p] + 1;
                        if (last) begin
                            read_head[p] = next(slot);
                            read_waiting[p]--;
                        end
                    end
                end
            end
        end
        if (bvalid && bready) write_in_flight--;
        if (wvalid && wready) accept_write_beat();
        if (awvalid && awready) begin
            check_burst("Write", awaddr, awlen, awsize, awburst);
            write_word[write_tail] = longint'(awaddr) / BEAT;
            write_beats[write_tail] = int'(awlen) + 1;
            write_id[write_tail] = awid;
            write_outside[write_tail] = 0;
            write_tail = next(write_tail);
            write_waiting++;
            write_in_flight++;
        end
        awready <= longint'(write_in_flight) < outstanding;
        wready <= write_waiting != 0;
        if (!bvalid || bready) begin
            bvalid <= response_waiting != 0 && response_end[response_head] <= horizon;
            if (response_waiting != 0 && response_end[response_head] <= horizon) begin
                bid <= write_id[response_head];
                bresp <= write_outside[response_head] ? DECERR : OKAY;
                response_head = next(response_head);
                response_waiting--;
            end
        end
        now++;
    end
    /* verilator lint_on BLKSEQ */

    initial begin : load
        string path;
        int file, code;
        logic [BEAT_BYTES*8-1:0] beat;
        void'($value$plusargs("latency=%d", latency));
        void'($value$plusargs("bytes_per_cycle=%d", bytes_per_cycle));
        void'($value$plusargs("outstanding=%d", outstanding));
        if (!$value$plusargs("memory=%s", path)) $fatal(1, "+memory=FILE must be given");
        file = $fopen(path, "rb");
        if (file == 0) $fatal(1, "+memory must name a readable file, not %s", path);
        word_count = 0;
        code = $fread(beat, file);
        while (code == BEAT_BYTES) begin
            if ((word_count + 1) * BEAT > longint'(CAPACITY_BYTES)) $fatal(1, "%s must hold at most %0d bytes", path, CAPACITY_BYTES);
            words[int'(word_count)] = {<<8{beat}};  // $fread puts the file's first byte in the highest bits
            word_count++;
            code = $fread(beat, file);
        end
        if (code != 0) $fatal(1, "%s must hold whole beats of %0d bytes", path, BEAT_BYTES);
        $fclose(file);
    end

    always @(posedge dump) begin : save
        string path;
        int file;
        longint offset, bytes;
        if (!$value$plusargs("dump=%s", path) || !$value$plusargs("dump_offset=%d", offset)
            || !$value$plusargs("dump_bytes=%d", bytes)) $fatal(1, "+dump, +dump_offset and +dump_bytes must be given");
        file = $fopen(path, "wb");
        if (file == 0) $fatal(1, "+dump must name a file that can be written, not %s", path);
        for (longint i = offset / BEAT; i < (offset + bytes) / BEAT; i++)
            $fwrite(file, "%u", words[int'(i)]);
        $fclose(file);
    end
endmodule
