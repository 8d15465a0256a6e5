# Draws digits, prints what the server answered below each, and fails unless every answer is right.
# Usage: awk -f show_digits.awk images.json labels.txt answers.json
# images.json: one 8×8 image of 0..16 a line. answers.json: the reply of `coracle predict --json`.

FNR == 1 { file += 1 }
file == 1 && /[0-9]/ { gsub(/[^0-9]+/, " "); images[++count] = $0 }
file == 2 { labels[FNR] = $1 }
file == 3 { reply = reply $0 }

# The longest bracketed list of numbers in the reply is the probabilities' data, 10 for each image.
function read_answers(    text, longest, parts, total, i, row, value) {
    text = reply
    gsub(/[ \t\r\n]/, "", text)
    while (match(text, /\[[][0-9eE.,+-]*\]/)) {
        if (RLENGTH > length(longest)) longest = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
    }
    gsub(/[][]/, "", longest)
    total = split(longest, parts, ",")
    if (total != 10 * count) {
        print "expected " 10 * count " probabilities, got " total
        exit 1
    }
    for (i = 0; i < total; i++) {
        row = int(i / 10) + 1
        value = parts[i + 1] + 0
        if (i % 10 == 0 || value > best[row]) {
            best[row] = value
            answer[row] = i % 10
        }
    }
}

function pixel_line(image, y,    pixels, x, line) {
    split(images[image], pixels, " ")
    for (x = 1; x <= 8; x++) {
        ink = substr(" .:-=+*#%@", 1 + int(pixels[8 * y + x] * 9 / 16), 1)
        line = line ink ink
    }
    return line
}

END {
    if (count == 0) exit 1
    read_answers()
    for (first = 1; first <= count; first += 5) {
        print ""
        last = first + 4 < count ? first + 4 : count
        for (y = 0; y < 8; y++) {
            line = ""
            for (image = first; image <= last; image++) line = line "  " pixel_line(image, y)
            print line
        }
        line = ""
        for (image = first; image <= last; image++) {
            verdict = answer[image] == labels[image] ? "" : " WRONG"
            right += verdict == ""
            line = line sprintf("  %-16s", answer[image] sprintf(" (%.1f %%)", 100 * best[image]) verdict)
        }
        print line
    }
    printf "\n%d of %d right.\n", right, count
    exit right == count ? 0 : 1
}
