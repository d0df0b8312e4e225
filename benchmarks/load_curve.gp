# Draws what the load program wrote with --open_loop --data=FILE:
#   gnuplot -e "data='FILE'; plot_file='FILE.svg'" load_curve.gp
set terminal svg size 800,500 font 'sans-serif,13' background rgb 'white'
set output plot_file
set title 'Latency from the time at which a call should have begun'
set xlabel 'offered calls per second'
set ylabel 'microseconds'
set logscale xy
set format x '%.0s%c'
set grid
set key left top
stats data using 1 nooutput
plot for [i = 0 : STATS_blocks - 1] data index i using 1:2 with linespoints lw 2 pt 7 ps 0.5 lc i + 1 \
         title columnheader(1) . ' p50', \
     for [i = 0 : STATS_blocks - 1] data index i using 1:3 with linespoints lw 2 pt 7 ps 0.5 dt 2 lc i + 1 \
         title columnheader(1) . ' p99'
