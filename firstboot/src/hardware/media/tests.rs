use super::*;

fn graphics() -> Graphics {
    Graphics {
        module: "i915".into(),
        va_driver: "iHD".into(),
        interfaces: vec![Interface::Qsv, Interface::Vaapi],
        encodes: vec![Codec::H264],
        decodes: vec![Codec::H264, Codec::Av1],
    }
}

/// A test whose ffmpeg is a shell script.
fn test(script: &str, folder: &Path, patience: Duration) -> Test {
    let program = ["/bin/sh", "-c", script, "ffmpeg"].map(Into::into).to_vec();
    let node = folder.join("dev/dri/renderD128");
    Test { node, graphics: graphics(), ffmpeg: Ffmpeg { program, va_driver: "iHD".into(), patience } }
}

#[test]
fn ffmpeg_is_told_so_that_it_cannot_fall_back_to_the_cpu() {
    let clip = Clip { folder: Path::new("/run/m"), node: Path::new("/dev/dri/renderD128") };
    let hardware = |codec, direction, by| clip.hardware(codec, direction, by).join(" ");
    insta::assert_snapshot!(clip.generate().join(" "), @"-f lavfi -i testsrc2=size=1280x720:rate=30 -frames:v 60 -pix_fmt nv12 -f rawvideo /run/m/clip.nv12");
    insta::assert_snapshot!(clip.software(Codec::Hevc, Direction::Encode).join(" "), @"-f rawvideo -pixel_format nv12 -video_size 1280x720 -framerate 30 -stream_loop 4 -i /run/m/clip.nv12 -pix_fmt yuv420p -c:v libx265 -preset veryfast /run/m/hevc.mkv");
    insta::assert_snapshot!(hardware(Codec::Hevc, Direction::Encode, Interface::Vaapi), @"-init_hw_device vaapi=gpu:/dev/dri/renderD128 -filter_hw_device gpu -f rawvideo -pixel_format nv12 -video_size 1280x720 -framerate 30 -stream_loop 4 -i /run/m/clip.nv12 -vf hwupload -c:v hevc_vaapi /run/m/gpu-hevc.mkv");
    insta::assert_snapshot!(hardware(Codec::Av1, Direction::Decode, Interface::Vaapi), @"-init_hw_device vaapi=gpu:/dev/dri/renderD128 -filter_hw_device gpu -hwaccel vaapi -hwaccel_device gpu -hwaccel_output_format vaapi -i /run/m/av1.mkv -vf hwdownload,format=nv12 -f null -");
    insta::assert_snapshot!(hardware(Codec::H264, Direction::Encode, Interface::Qsv), @"-init_hw_device vaapi=va:/dev/dri/renderD128 -init_hw_device qsv=gpu@va -filter_hw_device gpu -f rawvideo -pixel_format nv12 -video_size 1280x720 -framerate 30 -stream_loop 4 -i /run/m/clip.nv12 -vf hwupload=extra_hw_frames=64,format=qsv -c:v h264_qsv /run/m/gpu-h264.mkv");
    insta::assert_snapshot!(hardware(Codec::H264, Direction::Decode, Interface::Qsv), @"-init_hw_device vaapi=va:/dev/dri/renderD128 -init_hw_device qsv=gpu@va -filter_hw_device gpu -hwaccel qsv -hwaccel_device gpu -hwaccel_output_format qsv -c:v h264_qsv -i /run/m/h264.mkv -vf hwdownload,format=nv12 -f null -");
}

#[test]
fn every_codec_is_tried_in_every_way_and_the_folder_is_emptied() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let script = format!("echo \"$LIBVA_DRIVER_NAME $*\" >> {}", log.display());
    let report = test(&script, root.path(), PATIENCE).run(&root.path().join("media")).unwrap();
    assert!(report.is_good());
    let rows: Vec<_> = report.rows.iter().map(|row| (row.codec, row.direction, row.interface)).collect();
    use Interface::{Qsv, Vaapi};
    let expected = [
        (Codec::H264, "encode", Qsv),
        (Codec::H264, "encode", Vaapi),
        (Codec::H264, "decode", Qsv),
        (Codec::H264, "decode", Vaapi),
        (Codec::Av1, "decode", Qsv),
        (Codec::Av1, "decode", Vaapi),
    ];
    assert_eq!(rows, expected);
    assert!(!root.path().join("media").exists());
    let log = std::fs::read_to_string(log).unwrap();
    // The clip; software in both directions for two codecs; six rows; two encoded files that are looked at.
    assert_eq!(log.lines().count(), 1 + 4 + 6 + 2, "{log}");
    assert!(log.lines().all(|line| line.starts_with("iHD -hide_banner -nostdin ")), "{log}");
}

#[test]
fn what_the_gpu_cannot_do_is_said_in_ffmpegs_words() {
    let root = tempfile::tempdir().unwrap();
    let script = "case \"$*\" in *_vaapi*) echo 'Device creation failed.' >&2; echo >&2; echo 'Error parsing' >&2; exit 187;; esac";
    let report = test(script, root.path(), PATIENCE).run(&root.path().join("media")).unwrap();
    assert!(!report.is_good());
    let failed: Vec<_> = report.rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed(_))).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        failed[0].to_string(),
        "h264  encode  vaapi  FAILED  Device creation failed.; Error parsing (exit status: 187)"
    );
}

#[test]
fn a_gpu_that_writes_rubbish_has_failed() {
    let root = tempfile::tempdir().unwrap();
    let script = "case \"$*\" in *-xerror*) echo 'Invalid data found' >&2; exit 1;; esac";
    let report = test(script, root.path(), PATIENCE).run(&root.path().join("media")).unwrap();
    let row = report.rows.first().unwrap().to_string();
    assert!(row.contains("what the GPU has encoded cannot be decoded: Invalid data found"), "{row}");
}

#[test]
fn a_program_that_hangs_is_ended() {
    let root = tempfile::tempdir().unwrap();
    let test = test("exec sleep 600", root.path(), Duration::from_millis(100));
    let error = format!("{:#}", test.run(&root.path().join("media")).unwrap_err());
    assert_eq!(error, "making the clip: it did not end within 0.1 s");
}

#[test]
fn a_machine_or_an_image_without_a_gpu_is_told_so_plainly() {
    let root = tempfile::tempdir().unwrap();
    let mut description = Description { profile: "qemu".into(), ..Description::default() };
    let refusal = |description: &Description| Test::of_system(root.path(), description).unwrap_err();
    assert_eq!(refusal(&description), "the image of profile `qemu` uses no GPU, and the machine shows none");
    description.graphics = Some(graphics());
    let none = "no GPU: /dev/dri has no render node, so the driver i915 has found nothing to drive";
    assert_eq!(refusal(&description), none);
    std::fs::create_dir_all(root.path().join("dev/dri")).unwrap();
    std::fs::write(root.path().join("dev/dri/card0"), "").unwrap();
    assert_eq!(refusal(&description), none);
    std::fs::write(root.path().join("dev/dri/renderD128"), "").unwrap();
    assert_eq!(refusal(&description), "the image has no ffmpeg");
}
