
# Project -------------------------------------------------------------------------------------------------------------

set here [file dirname [file normalize [info script]]]
set sources [file dirname $here]

create_project -force pivot [file join $here project] -part $part
set board_parts [get_board_parts -quiet -latest_file_version "${board}:*"]
if {[llength $board_parts] == 0} {
    error "Vivado must have the board files of $board: install them from its board store"
}
set_property board_part [lindex $board_parts 0] [current_project]
add_files -norecurse [list [file join $sources accelerator.v] [file join $sources accelerator_board.v]]
add_files -fileset constrs_1 -norecurse [file join $sources constraints.xdc]
update_compile_order -fileset sources_1

# Block design --------------------------------------------------------------------------------------------------------

create_bd_design system
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps]
apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset 1} $ps

# Ports: M_AXI_HPM0_FPD is master GP0; S_AXI_HP0_FPD to S_AXI_HP3_FPD are slaves GP2 to GP5.
set settings [list \
    CONFIG.PSU__USE__M_AXI_GP0 1 CONFIG.PSU__MAXIGP0__DATA_WIDTH 32 \
    CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 0 \
    CONFIG.PSU__FPGA_PL0_ENABLE 1 CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz \
    CONFIG.PSU__USE__IRQ0 1]
for {set port 0} {$port < $masters} {incr port} {
    set slave [expr {$port + 2}]
    lappend settings CONFIG.PSU__USE__S_AXI_GP$slave 1 CONFIG.PSU__SAXIGP${slave}__DATA_WIDTH $port_bits
}
set_property -dict $settings $ps

set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]
set machine [create_bd_cell -type module -reference accelerator_board machine]
set clock [get_bd_pins ps/pl_clk0]
connect_bd_net $clock [get_bd_pins reset/slowest_sync_clk] [get_bd_pins machine/clk] [get_bd_pins ps/maxihpm0_fpd_aclk]
connect_bd_net [get_bd_pins ps/pl_resetn0] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins reset/peripheral_reset] [get_bd_pins machine/rst]
connect_bd_net [get_bd_pins machine/interrupt] [get_bd_pins ps/pl_ps_irq0]

# A SmartConnect on every path: it converts AXI4 to AXI4-Lite, identifiers and beats of other widths.
proc connect_bus {name from to} {
    create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect $name
    set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] [get_bd_cells $name]
    connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins $name/aclk]
    connect_bd_net [get_bd_pins reset/interconnect_aresetn] [get_bd_pins $name/aresetn]
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $name/S00_AXI]
    connect_bd_intf_net [get_bd_intf_pins $name/M00_AXI] [get_bd_intf_pins $to]
}
connect_bus control_bus ps/M_AXI_HPM0_FPD machine/s_axi
for {set port 0} {$port < $masters} {incr port} {
    connect_bd_net $clock [get_bd_pins ps/saxihp${port}_fpd_aclk]
    connect_bus memory_bus_$port machine/m${port}_axi ps/S_AXI_HP${port}_FPD
}

# Address map: registers for the processors; for each master all of the DDR that it can address, and nothing else.
assign_bd_address -offset $control_address -range 4K \
    -target_address_space [get_bd_addr_spaces ps/Data] [get_bd_addr_segs machine/s_axi/reg0]
for {set port 0} {$port < $masters} {incr port} {
    set space [get_bd_addr_spaces machine/m${port}_axi]
    set slave [expr {$port + 2}]
    assign_bd_address -target_address_space $space [get_bd_addr_segs ps/SAXIGP$slave/HP${port}_DDR_LOW]
    if {$address_width >= 36} {
        assign_bd_address -target_address_space $space [get_bd_addr_segs ps/SAXIGP$slave/HP${port}_DDR_HIGH]
    }
    foreach other [get_bd_addr_segs -quiet -of_objects [get_bd_intf_pins ps/S_AXI_HP${port}_FPD]] {
        if {![string match *_DDR_* $other]} {
            exclude_bd_addr_seg -target_address_space $space $other
        }
    }
}
validate_bd_design
save_bd_design
set wrapper [make_wrapper -files [get_files system.bd] -top]
add_files -norecurse $wrapper
set_property top system_wrapper [current_fileset]
update_compile_order -fileset sources_1

# Synthesis, implementation, bitstream, reports -------------------------------------------------------------------------

proc run {name args} {
    launch_runs $name {*}$args
    wait_on_run $name
    if {[get_property PROGRESS [get_runs $name]] ne "100%"} {
        error "Run $name must finish, but its status is [get_property STATUS [get_runs $name]]"
    }
}
run synth_1
run impl_1 -to_step write_bitstream
open_run impl_1
report_utilization -hierarchical -file [file join $here utilization.rpt]
report_timing_summary -file [file join $here timing.rpt]
report_power -file [file join $here power.rpt]
write_hw_platform -fixed -include_bit -force -file [file join $here pivot.xsa]
file copy -force [file join [get_property DIRECTORY [get_runs impl_1]] system_wrapper.bit] [file join $here pivot.bit]
