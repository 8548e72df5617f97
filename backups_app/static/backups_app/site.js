"use strict";

// Better with it, whole without it: live bars, copy buttons, and a name that has to be typed.
(() => {
    const words = (document.getElementById("words") || { dataset: {} }).dataset;
    const POLL = 1000;
    const QUEUED_POLL = 400; // a worker takes it within a moment
    const HIDDEN_POLL = 15000;
    const LONGEST_PAUSE = 30000;

    // --- the bar of a running operation ----------------------------------------------------------------

    class Live {
        constructor(box) {
            this.box = box;
            this.after = box.dataset.after;
            this.failures = 0;
            this.timer = null;
            document.addEventListener("visibilitychange", () => document.hidden || this.soon(0));
            window.addEventListener("online", () => this.soon(0));
            this.soon(this.pause());
        }

        pause() {
            if (document.hidden) return HIDDEN_POLL;
            return this.box.dataset.state === "queued" ? QUEUED_POLL : POLL;
        }

        soon(pause) {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.ask(), pause);
        }

        async ask() {
            let answer;
            try {
                const url = `${this.box.dataset.live}?after=${this.after}`;
                answer = await fetch(url, { redirect: "manual", headers: { Accept: "application/json" }, cache: "no-store" });
                if (answer.type === "opaqueredirect") {
                    location.reload(); // the session has ended: the server leads to the login, and back here
                    return;
                }
                if (!answer.ok) throw new Error(answer.status);
                this.show(await answer.json());
            } catch {
                this.lost();
            }
        }

        lost() {
            this.failures += 1;
            const pause = Math.min(LONGEST_PAUSE, 1000 * 2 ** (this.failures - 1));
            const place = this.box.querySelector("[data-live-lost]");
            place.hidden = false;
            place.textContent = `${words.lost} ${pause / 1000} s.`;
            this.soon(pause);
        }

        show(report) {
            this.failures = 0;
            this.box.querySelector("[data-live-lost]").hidden = true;
            if (report.state !== this.box.dataset.state) {
                location.reload(); // begun or ended: the server writes the whole page anew
                return;
            }
            const whole = document.querySelector("[data-whole-page]");
            if (whole && String(report.stands_still) !== this.box.dataset.still) {
                location.reload(); // it stands still, and the page tells who blocks it; or it moves again
                return;
            }
            const step = this.box.querySelector("[data-live-step]");
            if (step.textContent !== report.step) step.textContent = report.step;
            const percent = report.percent === null ? "" : `${report.percent} %`;
            const numbers = [report.amount, percent, report.left].filter(Boolean).join(" · ");
            this.box.querySelector("[data-live-numbers]").textContent = numbers;
            const bar = this.box.querySelector("progress");
            if (report.percent === null) bar.removeAttribute("value");
            else bar.value = report.percent;
            document.querySelectorAll("[data-live-duration]").forEach((place) => { place.textContent = report.duration; });
            report.steps.forEach((line) => this.add(line));
            this.soon(this.pause());
        }

        add(line) {
            this.after = line.id;
            const list = document.querySelector("[data-live-steps]");
            if (!list) return;
            const item = document.createElement("li");
            item.className = `step-${line.level}`;
            const when = document.createElement("span");
            when.className = "when";
            const time = document.createElement("time");
            time.dateTime = line.at.utc;
            time.title = line.at.utc;
            time.textContent = line.at.local;
            when.append(time);
            const what = document.createElement("span");
            what.className = "what";
            what.textContent = `${line.what} `;
            const seconds = document.createElement("span");
            seconds.className = "quiet";
            seconds.textContent = line.seconds;
            what.append(seconds);
            item.append(when, " ", what);
            list.append(item);
            document.querySelectorAll("[data-live-nosteps]").forEach((place) => { place.hidden = true; });
        }
    }

    document.querySelectorAll("[data-live]").forEach((box) => new Live(box));

    // --- copy what one may need elsewhere ------------------------------------------------------------------

    async function copy(place) {
        try {
            await navigator.clipboard.writeText(place.textContent);
        } catch {
            const range = document.createRange();
            range.selectNodeContents(place);
            getSelection().removeAllRanges();
            getSelection().addRange(range);
            document.execCommand("copy");
        }
    }

    document.querySelectorAll(".copyable").forEach((place) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "act small copy";
        button.textContent = words.copy;
        button.addEventListener("click", async () => {
            await copy(place);
            button.textContent = words.copied;
            setTimeout(() => { button.textContent = words.copy; }, 2000);
        });
        place.after(button);
    });

    // --- the grave button works once the name is typed; the server checks it again -----------------------------

    document.querySelectorAll("form[data-confirm]").forEach((form) => {
        const typed = form.querySelector("[name=typed]");
        const button = form.querySelector("button[type=submit]");
        const why = document.createElement("span");
        why.className = "why";
        why.id = "why-disabled";
        button.setAttribute("aria-describedby", why.id);
        button.after(why);
        const look = () => {
            button.disabled = typed.value.trim() !== form.dataset.confirm;
            why.textContent = button.disabled ? words.type : "";
        };
        typed.addEventListener("input", look);
        window.addEventListener("pageshow", look);
        look();
    });
})();
