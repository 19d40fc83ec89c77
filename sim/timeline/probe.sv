// Writes what the machine's units do, a line "track name descriptor begin end" per span, to the file that +timeline= names.
// It changes nothing; spans.py tells the tracks and reads the file, probe.py connects the signals.
module timeline_probe #(
    parameter int PORTS = 2
) (
    input logic clk,
    input logic clear,                        // the batch begins: cycle 0 is the next one
    input logic busy,
    input logic executed, skipped,            // by the fetch,
    input logic [15:0] fetch_index,           // this descriptor
    input logic [6:0] stall,                  // one bit per cause
    input logic array, tile_begins,           // a word is decided, the first of a tile
    input logic [15:0] index,                 // descriptor at issue
    input logic lane, lane_first,             // a column is at row 0's lane, the first of a tile
    input logic norm, norm_first,             // a token of a normalise pass, the first of a row tile
    input logic softmax,
    input logic parameters, table_done,       // a column tile's parameters, or a table, have come
    input logic gate,
    input logic record_start, record_done,
    input logic [PORTS-1:0] arvalid, arready, rvalid, rready, rlast,
    input logic [PORTS-1:0][7:0] arlen
);
    // In the order of sim.timeline.spans.TRACKS, and of hw.memory.jobs.JobKind.
    typedef enum int {FETCH, STALL, ARRAY, LANES, NORM, SOFTMAX, SIDE, GATE, RECORD, PORT} track_t;
    typedef enum int {PARAMETERS, TABLE} side_t;

    int file = 0, cycle;
    string path;
    initial if ($value$plusargs("timeline=%s", path)) file = $fopen(path, "w");
    final if (file != 0) $fclose(file);
    always @(posedge clk) cycle <= clear ? 0 : cycle + 1;

    function automatic void span(int track, int name, int descriptor, int first, int last);
        if (file != 0) $fwrite(file, "%0d %0d %0d %0d %0d\n", track, name, descriptor, first, last);
    endfunction

    // A span per run of `active` with one name and descriptor; `split` begins another one.
    int names[PORT], descriptors[PORT], begins[PORT];
    bit open[PORT];
    function automatic void run(track_t track, bit active, bit split, int name, int descriptor);
        if (open[track] && (!active || split || name != names[track] || descriptor != descriptors[track])) begin
            span(track, names[track], descriptors[track], begins[track], cycle);
            open[track] = 0;
        end
        if (active && !open[track]) begin
            open[track] = 1;
            names[track] = name;
            descriptors[track] = descriptor;
            begins[track] = cycle;
        end
    endfunction

    int record_begin;
    always @(posedge clk) begin
        if (executed || skipped) span(FETCH, int'(skipped), int'(fetch_index), cycle, cycle + 1);
        run(STALL, busy && stall != 0, 0, $clog2(int'(stall)), -1);
        run(ARRAY, array, tile_begins, 0, int'(index));
        run(LANES, lane, lane_first, 0, -1);
        run(NORM, norm, norm_first, 0, -1);
        run(SOFTMAX, softmax, 0, 0, int'(index));
        if (parameters) span(SIDE, PARAMETERS, -1, cycle, cycle + 1);
        if (table_done) span(SIDE, TABLE, -1, cycle, cycle + 1);
        run(GATE, gate, 0, 0, int'(index));
        if (record_start) record_begin <= cycle;
        if (record_done) span(RECORD, 0, -1, record_begin, cycle + 1);
    end

    for (genvar port = 0; port < PORTS; port++) begin : bursts
        int begins[$], beats[$];
        always @(posedge clk) begin
            if (arvalid[port] && arready[port]) begin
                begins.push_back(cycle);
                beats.push_back(int'(arlen[port]) + 1);
            end
            if (rvalid[port] && rready[port] && rlast[port])
                span(PORT + port, beats.pop_front(), -1, begins.pop_front(), cycle + 1);
        end
    end
endmodule
