# Shell functions for scripts of tests.support.fix_namespace: roots that are not this machine's, in which the program can run.

# A folder with all that is here below it, as a container's own root: `jail FOLDER`
jail() {
  mkdir -p "$1"
  mount -t tmpfs -o mode=755 none "$1"
  for entry in /*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$1/"
    elif [ -d "$entry" ]; then mkdir "$1$entry"; mount --rbind "$entry" "$1$entry"
    fi
  done
}
