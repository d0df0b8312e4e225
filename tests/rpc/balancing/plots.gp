# Draws what the simulation wrote with --plot=DIR:
#   gnuplot -e "dir='DIR'" tests/rpc/balancing/plots.gp
set terminal svg size 720,420 font 'sans-serif,13' background rgb 'white'
set logscale x
set xlabel 'servers'
set grid
set key top left
set style data linespoints

set output dir . '/slow.svg'
set title 'One server becomes 50 times slower: p99 against that of the healthy fleet'
set ylabel 'times'
set logscale y
set key top right
data = dir . '/slow.data'
stats data using 1 nooutput
plot for [i = 0 : STATS_blocks - 1] data index i using 1:2 lw 2 pt 7 ps 0.6 lc i + 1 title columnheader(1), \
     2 with lines dt 2 lc 'gray' title 'the promise'

set output dir . '/spread.svg'
set title 'Calls of the server with the most, against the mean, at 70 % utilization'
set ylabel 'times'
unset logscale y
set yrange [0.95:*]
set key top left
data = dir . '/spread.data'
plot for [i = 0 : STATS_blocks - 1] data index i using 1:2 lw 2 pt 7 ps 0.6 lc i + 1 title columnheader(1)
