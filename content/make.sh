#!/bin/sh
# Makes the clips of this folder anew. Needs ffmpeg with libvpx and freetype; docs/content.md explains each choice.
#
#   content/make.sh [DIRECTORY]     writes into DIRECTORY, or beside this script
#
# FONT names the TrueType file of the captions.
set -eu

out=${1:-$(dirname "$0")}
font=${FONT:-/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf}
fps=12
frames=$((fps * 60))
half_second=$((fps / 2))

# film NAME TITLE BITRATE SOURCE: one film of SOURCE, an ffmpeg filter graph that gives 320x180 pictures at $fps.
film() {
    name=$1 title=$2 bitrate=$3 source=$4
    caption="drawtext=fontfile=$font:fontsize=14:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=4:x=10"
    log=$(mktemp -d)
    for pass in 1 2; do
        target=/dev/null
        [ "$pass" = 1 ] || target="$out/$name.mp4"
        ffmpeg -nostdin -hide_banner -loglevel error -y \
            -f lavfi -i "$source,trim=end_frame=$frames,\
$caption:y=10:text='$title',\
$caption:y=h-th-10:text='frame %{frame_num}  %{pts\\:hms}',\
format=yuv420p" \
            -c:v libvpx-vp9 -b:v "$bitrate" -pass "$pass" -passlogfile "$log/pass" \
            -deadline good -cpu-used 1 -threads 1 -row-mt 0 -lag-in-frames "$half_second" \
            -g "$half_second" -keyint_min "$half_second" \
            -flags +bitexact -fflags +bitexact -metadata title="$title" \
            -movflags +frag_keyframe+empty_moov+default_base_moof -f mp4 "$target"
    done
    rm -r "$log"
}

film mandelbrot "Into the Mandelbrot set" 72k \
    "mandelbrot=size=320x180:rate=$fps:end_pts=$frames:start_scale=3:end_scale=0.002"
film life "The game of Life" 72k \
    "life=size=80x45:rate=$fps:seed=7:ratio=0.3:mold=12:\
life_color=0xe0f0ff:death_color=0x3050a0:mold_color=0x101830,scale=320:180:flags=neighbor"
film gradients "Drifting colours" 72k \
    "gradients=size=320x180:rate=$fps:type=spiral:n=4:seed=7:speed=0.02:\
c0=0x10205c:c1=0x2ec4b6:c2=0xffd166:c3=0xd1495b:x0=90:y0=60:x1=290:y1=150"
